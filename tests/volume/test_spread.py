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


def test_each_voxel_gets_the_part_of_the_cloud_that_lies_in_it(grid: Grid) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([1.5, 1.5, 0], [8.5, 6.5, 3], (20, 3))
    weights = rng.random(20)
    expected = np.zeros(grid.shape)
    fine = (np.arange(2000) + 0.5) / 1000 - 1  # places in the cloud, from one voxel before its middle to one behind
    mass = (1 - np.abs(fine)) / 1000
    for point, weight, k in zip(points, weights, grid.index(points)[:, 2], strict=True):
        in_x, in_y = (
            np.bincount(np.floor((point[a] + fine - grid.origin[a]) / grid.voxel_size).astype(int), mass, n)
            for a, n in enumerate(grid.shape[:2])
        )
        expected[:, :, k] += weight * np.outer(in_x, in_y)
    np.testing.assert_allclose(deposited(points, weights, grid), expected, atol=1e-3)


def test_the_total_is_kept_to_the_edge_of_the_tissue(grid: Grid) -> None:
    corners = np.array([[0.0, 0.0, 0.0], [10.0, 8.0, 0.0], [0.0, 8.0, 3.0]])
    assert deposited(corners, np.ones(3), grid).sum() == pytest.approx(3)


def test_a_regular_lattice_gives_an_even_density() -> None:
    x, y = np.meshgrid(np.arange(0, 20, 0.8), np.arange(0, 20, 0.8))
    points = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    grid = Grid.covering(points.min(0), points.max(0), 1.0)
    inner = deposited(points, np.ones(len(points)), grid)[3:-3, 3:-3, 0]
    assert inner.std() / inner.mean() < 0.15


def test_tissue_of_irregular_cells_has_no_holes() -> None:
    rng = np.random.default_rng(0)
    cells = rng.uniform(0, 40, (40**2 // 2, 2))  # two voxels a cell, as by default
    grid = Grid.covering([0.0, 0.0, 0.0], [40.0, 40.0, 0.0], 1.0)
    density = deposited(np.column_stack([cells, np.zeros(len(cells))]), np.ones(len(cells)), grid)
    assert (density[1:-1, 1:-1] == 0).mean() < 0.02
