from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isost.volume import Grid, default_voxel_size

SIZES = st.floats(1e-3, 1e3)
COORDINATES = st.floats(-1e5, 1e5)


def test_centers_follow_the_contract():
    grid = Grid(np.array([1.0, 2.0, 3.0]), 0.5, (4, 5, 6))
    assert np.allclose(grid.centers([[0, 0, 0], [3, 4, 5]]), [[1.25, 2.25, 3.25], [2.75, 4.25, 5.75]])
    assert np.allclose(grid.layer_depths(), grid.centers([[0, 0, k] for k in range(6)])[:, 2])


def test_index_and_centers_are_inverse():
    grid = Grid(np.array([-3.3, 7.0, 1e4]), 0.7, (9, 8, 7))
    index = np.stack(np.unravel_index(np.arange(9 * 8 * 7), grid.shape), axis=1)
    assert np.array_equal(grid.index(grid.centers(index)), index)
    assert grid.contains(index).all()


@given(
    lower=st.tuples(COORDINATES, COORDINATES, COORDINATES),
    width=st.tuples(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 1e3)),
    voxel_size=SIZES,
)
def test_covering_holds_its_box(lower, width, voxel_size):
    low = np.array(lower)
    high = low + np.array(width)
    grid = Grid.covering(low, high, voxel_size)
    corners = np.array([low, high])
    assert grid.contains(grid.index(corners)).all()
    # The first section is in the first layer and the last section in the last: no depth between is left out.
    assert grid.index(corners)[:, 2].tolist() == [0, grid.shape[2] - 1]


@given(low=COORDINATES, width=st.floats(0, 100), voxel_size=st.floats(0.01, 10))
def test_covering_pads_the_plane_evenly(low, width, voxel_size):
    grid = Grid.covering([low, low, 0], [low + width, low + width, 1], voxel_size)
    below = low - grid.origin[:2]
    above = grid.origin[:2] + np.array(grid.shape[:2]) * voxel_size - (low + width)
    assert np.allclose(below, above, atol=1e-9 * max(1, abs(low)))
    assert (below > voxel_size / 2 - 1e-9 * max(1, abs(low))).all()
    assert (below <= voxel_size + 1e-9 * max(1, abs(low))).all()


@pytest.mark.parametrize(
    ("last", "depths"),
    [(100.0, [0, 50, 100]), (99.0, [0, 50, 100]), (74.9, [0, 50]), (75.0, [0, 50, 100]), (0.0, [0])],
)
def test_layers_start_at_the_first_section(last, depths):
    grid = Grid.covering([0, 0, 10], [1, 1, 10 + last], 50)
    assert np.allclose(grid.layer_depths() - 10, depths)


def test_points_outside_are_refused_however_far():
    grid = Grid(np.zeros(3), 1.0, (2, 2, 2))
    points = [[-1e-9, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2], [1e300, 0, 0], [0, -1e300, 0], [1.999, 1.999, 0]]
    assert grid.contains(grid.index(points)).tolist() == [False] * 6 + [True]


def test_dict_round_trip_keeps_every_bit():
    grid = Grid.covering([0.1, 0.2, 0.3], [7.7, 8.8, 9.9], 1.3)
    values = grid.to_dict()
    assert Grid.from_dict(values) == grid
    assert Grid.from_dict({**values, "voxel_size": np.float64(1.3), "shape": list(values["shape"])}) == grid
    assert Grid.from_dict({**values, "voxel_size": 1.4}) != grid
    assert grid != "grid"


def test_grid_does_not_share_or_lend_its_origin():
    origin = np.zeros(3)
    grid = Grid(origin, 1.0, (1, 1, 1))
    origin[0] = 5
    grid.to_dict()["origin"][1] = 5
    assert np.array_equal(grid.origin, np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        grid.origin[0] = 1


@pytest.mark.parametrize("voxel_size", [0, -1, np.nan, np.inf])
def test_voxel_size_must_be_positive(voxel_size):
    with pytest.raises(ValueError, match="voxel_size must be a positive number"):
        Grid.covering([0, 0, 0], [1, 1, 1], voxel_size)


def test_impossible_grids_are_refused():
    with pytest.raises(ValueError, match="origin of a grid"):
        Grid(np.array([0, np.nan, 0]), 1.0, (1, 1, 1))
    with pytest.raises(ValueError, match="shape of a grid"):
        Grid(np.zeros(3), 1.0, (1, 0, 1))
    with pytest.raises(ValueError, match="choose a larger voxel_size"):
        Grid.covering([0, 0, 0], [1e7, 1e7, 1e7], 1e-3)
    with pytest.raises(ValueError, match="lower <= upper"):
        Grid.covering([0, 0, 1], [1, 1, 0], 1)


def test_default_voxel_size_of_a_lattice():
    lattice = 20.0 * np.stack(np.meshgrid(np.arange(10), np.arange(10)), -1).reshape(-1, 2)
    assert default_voxel_size([lattice, lattice + 3]) == 30.0
    assert default_voxel_size([np.column_stack([lattice, np.arange(100)])]) == 30.0  # z does not count
    assert default_voxel_size([lattice], factor=1.234) == 25.0  # 24.68, to two digits


def test_default_voxel_size_matches_a_slow_search():
    rng = np.random.default_rng(0)
    sections = [rng.normal(size=(n, 2)) for n in (30, 1, 50)]
    nearest = []
    for section in sections:
        for i, point in enumerate(section):
            others = np.delete(section, i, axis=0)
            nearest += [np.sqrt(((others - point) ** 2).sum(1)).min()] if len(others) else []
    assert default_voxel_size(sections, factor=1) == pytest.approx(np.median(nearest), rel=0.05)


def test_default_voxel_size_needs_a_spacing():
    with pytest.raises(ValueError, match="no section has two cells"):
        default_voxel_size([np.zeros((1, 2)), np.zeros((0, 2))])
    with pytest.raises(ValueError, match="pass voxel_size"):
        default_voxel_size([np.zeros((5, 2))])
