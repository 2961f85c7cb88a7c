from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from isost.datasets._cells import cell_mass, place_cells
from isost.datasets._shape import Shape
from isost.datasets._tissue import density

SHAPE = Shape(radius=250.0, depth=360.0)


@pytest.mark.parametrize("n", [1, 7, 800])
@pytest.mark.parametrize("z", [0.0, 150.0, 360.0])
def test_exactly_n_cells_in_the_tissue(n, z):
    cells = place_cells(SHAPE, z, n, rng=np.random.default_rng(0))
    assert cells.shape == (n, 3)
    assert SHAPE.inside(cells).all()
    assert (cells[:, 2] == z).all()


def test_spacing_is_even():
    cells = place_cells(SHAPE, 120.0, 1_000, rng=np.random.default_rng(1))
    gaps = cKDTree(cells).query(cells, 2)[0][:, 1]
    assert gaps.std() / gaps.mean() < 0.35  # 0.52 where cells lie at random
    assert gaps.min() > 0


def test_cells_follow_the_density():
    rng = np.random.default_rng(2)
    uniform = np.column_stack([rng.uniform(*SHAPE.bounds(120.0), (40_000, 2)), np.full(40_000, 120.0)])
    edges = [0.0, 0.25, 0.75, 1.0]
    wanted, _ = np.histogram(SHAPE.relative_depth(uniform), edges, weights=density(SHAPE, uniform))
    found = np.zeros(3)
    for _ in range(4):
        cells = place_cells(SHAPE, 120.0, 1_000, rng=rng)
        found += np.histogram(SHAPE.relative_depth(cells), edges)[0]
    np.testing.assert_allclose(found / found.sum(), wanted / wanted.sum(), rtol=0.10)


def test_cell_mass_is_the_integral_of_the_density():
    low, high = SHAPE.bounds(90.0)
    n = 200_000
    xy = np.random.default_rng(3).uniform(low, high, (n, 2))
    drawn = density(SHAPE, np.column_stack([xy, np.full(n, 90.0)]))
    area = (high - low).prod()
    assert abs(cell_mass(SHAPE, 90.0) - drawn.mean() * area) < 5 * drawn.std() / np.sqrt(n) * area + 0.002 * area
