from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

import isost
from isost._nearest import nearest_points


@pytest.mark.parametrize(("n", "first"), [(1, 1), (5, 1), (5, 2), (5, 5), (30, 1)])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_equals_sorting_all_distances(n: int, first: int, n_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isost.settings, "n_threads", n_threads)
    rng = np.random.default_rng(0)
    points, places = 1e5 + rng.random((20, 3)), 1e5 + rng.random((7, 3))
    apart = np.linalg.norm(places[:, None] - points, axis=2)
    ranks = slice(first - 1, min(n, len(points)))
    distance, index = nearest_points(cKDTree(points), places, n, first=first)
    np.testing.assert_array_equal(index, apart.argsort(1)[:, ranks])
    np.testing.assert_allclose(distance, np.sort(apart, 1)[:, ranks])


def test_no_places_have_no_neighbours() -> None:
    distance, index = nearest_points(cKDTree(np.eye(2)), np.empty((0, 2)), 2)
    assert distance.shape == index.shape == (0, 2)
