from __future__ import annotations

import numpy as np
import pytest

from isost.metrics import _energy, energy_distance


def slow(a, b):
    def mean(u, v, pairs):
        return sum(np.sqrt(((p - q) ** 2).sum()) for p in u for q in v) / pairs

    n, m = len(a), len(b)
    return 2 * mean(a, b, n * m) - mean(a, a, n * (n - 1)) - mean(b, b, m * (m - 1))


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_equals_a_double_loop(monkeypatch, block):
    monkeypatch.setattr(_energy, "_BLOCK", block)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 3)), rng.normal(size=(15, 3)) + 0.3
    assert energy_distance(a, b) == pytest.approx(slow(a, b), abs=1e-12)


def test_is_unbiased_when_nothing_differs():
    rng = np.random.default_rng(1)
    draws = [energy_distance(*rng.normal(size=(2, 40, 2))) for _ in range(400)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / 20
    assert min(draws) < 0 < max(draws)


def test_of_two_far_clusters_is_twice_their_distance():
    a, b = np.zeros((10, 1)), np.full((10, 1), 5.0)
    assert energy_distance(a, b) == pytest.approx(10)


def test_draws_at_most_n_points():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(50, 2)), rng.normal(size=(8, 2))
    order = np.random.default_rng(5)
    drawn = a[order.permutation(50)[:10]]
    assert energy_distance(a, b, n_points=10, seed=5) == pytest.approx(energy_distance(drawn, b), abs=1e-12)
