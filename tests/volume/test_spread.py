from __future__ import annotations

import numpy as np
import pytest

from isost.volume import Accumulator, Grid, spread_in_layer


@pytest.fixture
def grid() -> Grid:
    return Grid.covering([0.0, 0.0, 0.0], [10.0, 8.0, 3.0], 1.0)


def deposited(points: np.ndarray, weights: np.ndarray, grid: Grid) -> np.ndarray:
    accumulator = Accumulator(grid, 0)
    spread, shares = spread_in_layer(points, weights, grid)
    accumulator.add(spread, np.empty((len(spread), 0)), shares)
    assert accumulator.weight_outside == 0
    voxels = accumulator.result()
    dense = np.zeros(grid.shape)
    dense[tuple(voxels.index.T)] = voxels.density
    return dense


def test_each_voxel_gets_the_part_of_the_square_it_covers(grid: Grid) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([0, 0, 0], [10, 8, 3], (50, 3))
    weights = rng.random(50)
    expected = np.zeros(grid.shape)
    layer = grid.index(points)[:, 2]
    for point, weight, k in zip(points, weights, layer, strict=True):
        for i in range(grid.shape[0]):
            for j in range(grid.shape[1]):
                center = grid.centers([[i, j, 0]])[0, :2]
                covered = np.clip(1 - np.abs(point[:2] - center) / grid.voxel_size, 0, None)
                expected[i, j, k] += weight * covered.prod()
    np.testing.assert_allclose(deposited(points, weights, grid), expected, atol=1e-12)


def test_the_total_is_kept_to_the_edge_of_the_tissue(grid: Grid) -> None:
    corners = np.array([[0.0, 0.0, 0.0], [10.0, 8.0, 0.0], [0.0, 8.0, 3.0]])
    assert deposited(corners, np.ones(3), grid).sum() == pytest.approx(3)


def test_a_regular_lattice_gives_an_even_density() -> None:
    x, y = np.meshgrid(np.arange(0, 20, 0.8), np.arange(0, 20, 0.8))
    points = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    grid = Grid.covering(points.min(0), points.max(0), 1.0)
    inner = deposited(points, np.ones(len(points)), grid)[3:-3, 3:-3, 0]
    assert inner.std() / inner.mean() < 0.15
