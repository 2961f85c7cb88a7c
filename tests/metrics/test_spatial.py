from __future__ import annotations

import numpy as np
import pytest

from isost.metrics import local_linear, morans_i, neighbor_mean
from isost.metrics._spatial import correlation, mean_of_others


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def nearest(positions, place, k):
    return np.argsort(np.sqrt(((positions - place) ** 2).sum(1)))[:k]


@pytest.mark.parametrize("k", [1, 4, 1000])
def test_neighbor_mean_equals_a_slow_search(rng, k):
    positions, values, at = rng.normal(size=(30, 2)), rng.normal(size=(30, 3)), rng.normal(size=(8, 2))
    slow = [values[nearest(positions, place, k)].mean(0) for place in at]
    assert np.allclose(neighbor_mean(positions, values, at, n_neighbors=k), slow, atol=1e-12)


def test_mean_of_others_leaves_the_point_out(rng):
    positions, values = rng.normal(size=(30, 2)), rng.normal(size=(30, 3))
    slow = [values[nearest(positions, place, 6)[1:]].mean(0) for place in positions]
    assert np.allclose(mean_of_others(positions, values, n_neighbors=5), slow, atol=1e-12)


def test_local_linear_equals_weighted_least_squares(rng):
    positions, values, at = rng.normal(size=(60, 2)), rng.normal(size=(60, 3)), rng.normal(size=(7, 2))
    slow = []
    for place in at:
        i = nearest(positions, place, 20)
        distance = np.sqrt(((positions[i] - place) ** 2).sum(1))
        radius = distance.max() * 1.0001
        weight = (1 - (distance / radius) ** 3) ** 3
        design = np.column_stack([np.ones(20), (positions[i] - place) / radius])
        # The ridge as rows of data that want each slope to be 0.
        ridge = np.sqrt(1e-3 * weight.sum()) * np.array([[0, 1, 0], [0, 0, 1]])
        rows = np.vstack([design * np.sqrt(weight)[:, None], ridge])
        targets = np.vstack([values[i] * np.sqrt(weight)[:, None], np.zeros((2, 3))])
        slow.append(np.linalg.lstsq(rows, targets, rcond=None)[0][0])
    assert np.allclose(local_linear(positions, values, at, n_neighbors=20), slow, atol=1e-10)


def test_local_linear_is_exact_on_a_constant_and_close_on_a_plane(rng):
    positions, at = rng.random((400, 2)), 0.2 + 0.6 * rng.random((50, 2))
    values = np.column_stack([np.full(400, 3.0), positions @ [2.0, -1.0]])
    fit = local_linear(positions, values, at)
    assert np.allclose(fit[:, 0], 3, atol=1e-10)
    assert np.allclose(fit[:, 1], at @ [2.0, -1.0], atol=2e-3)


def test_local_linear_of_coincident_points_is_their_mean():
    values = np.arange(6.0).reshape(3, 2)
    assert np.allclose(local_linear(np.ones((3, 2)), values, np.ones((1, 2))), values.mean(0))


def test_morans_i_equals_its_double_sum(rng):
    positions, values = rng.normal(size=(40, 2)), rng.normal(size=(40, 3))
    weights = np.zeros((40, 40))
    for i in range(40):
        weights[i, nearest(positions, positions[i], 7)[1:]] = 1
    z = values - values.mean(0)
    slow = [40 / weights.sum() * (v @ weights @ v) / (v @ v) for v in z.T]
    assert np.allclose(morans_i(positions, values), slow, atol=1e-12)


def test_morans_i_of_known_patterns(rng):
    positions = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2)
    checkerboard = (-1.0) ** positions.sum(1)
    values = np.column_stack([positions[:, 0], rng.normal(size=900), checkerboard, np.ones(900)])
    smooth, noise, alternating, constant = morans_i(positions, values, n_neighbors=4)
    assert smooth > 0.95
    assert abs(noise) < 0.1
    assert alternating < -0.85
    assert constant == 0


def test_correlation_equals_numpy(rng):
    a, b = rng.normal(size=(20, 4)), rng.normal(size=(20, 4))
    a[:, 3] = 2.0
    slow = [np.corrcoef(a[:, j], b[:, j])[0, 1] for j in range(3)]
    assert np.allclose(correlation(a, b), [*slow, 0.0], atol=1e-12)
