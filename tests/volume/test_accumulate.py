from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isost.volume import Accumulator, Grid, _accumulate

GRID = Grid(np.array([-1.0, -2.0, 5.0]), 0.5, (6, 7, 4))


def scattered(seed: int, n: int, d: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in a box half a voxel larger than the grid, so that some are outside."""
    rng = np.random.default_rng(seed)
    extent = np.array(GRID.shape) * GRID.voxel_size
    points = GRID.origin - 0.25 + rng.random((n, 3)) * (extent + 0.5)
    return points, rng.normal(size=(n, d)), rng.random(n)


def reference(points, values, weights):
    """One point at a time, as METHOD.md describes it."""
    mass, total, outside = {}, {}, 0.0
    for point, value, weight in zip(points, values, weights, strict=True):
        voxel = tuple(int(np.floor(c)) for c in (point - GRID.origin) / GRID.voxel_size)
        if any(not 0 <= i < n for i, n in zip(voxel, GRID.shape, strict=True)):
            outside += weight
            continue
        mass[voxel] = mass.get(voxel, 0.0) + weight
        total[voxel] = total.get(voxel, 0.0) + weight * value
    order = sorted(mass, key=lambda voxel: voxel[::-1])
    return order, [mass[v] for v in order], [total[v] / mass[v] for v in order], outside


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 300))
def test_equals_a_loop_over_points(seed, n):
    points, values, weights = scattered(seed, n)
    accumulator = Accumulator(GRID, 3)
    accumulator.add(points, values, weights)
    voxels = accumulator.result()
    index, density, mean, outside = reference(points, values, weights)
    assert voxels.index.tolist() == [list(voxel) for voxel in index]
    assert np.allclose(voxels.density, density, rtol=1e-12, atol=0)
    assert np.allclose(voxels.mean, np.reshape(mean, (-1, 3)), rtol=1e-10, atol=1e-12)
    assert accumulator.weight_outside == pytest.approx(outside, rel=1e-12, abs=1e-15)


def test_no_mass_is_lost():
    points, values, weights = scattered(1, 5000)
    accumulator = Accumulator(GRID, 3)
    accumulator.add(points, values, weights)
    voxels = accumulator.result()
    inside = GRID.contains(GRID.index(points))
    assert voxels.density.sum() + accumulator.weight_outside == pytest.approx(weights.sum(), rel=1e-13)
    moment = (voxels.density[:, None] * voxels.mean).sum(0)
    assert np.allclose(moment, (weights[:, None] * values)[inside].sum(0), rtol=1e-12)
    assert accumulator.n_outside == (~inside).sum() > 0


@pytest.mark.parametrize("few_rows", [1, 1 << 14])
def test_order_and_portions_do_not_matter(monkeypatch, few_rows):
    monkeypatch.setattr(_accumulate, "_FEW_ROWS", few_rows)
    points, values, weights = scattered(2, 2000)
    whole = Accumulator(GRID, 3)
    whole.add(points, values, weights)
    parts = Accumulator(GRID, 3)
    shuffled = np.random.default_rng(3).permutation(2000)
    for rows in np.array_split(shuffled, 17):
        parts.add(points[rows], values[rows], weights[rows])
    a, b = whole.result(), parts.result()
    assert np.array_equal(a.index, b.index)
    assert np.allclose(a.density, b.density, rtol=1e-12, atol=0)
    assert np.allclose(a.mean, b.mean, rtol=1e-12, atol=1e-12)
    assert parts.n_outside == whole.n_outside


def test_adding_may_go_on_after_a_result():
    points, values, weights = scattered(4, 400)
    accumulator = Accumulator(GRID, 3)
    accumulator.add(points[:100], values[:100], weights[:100])
    first = accumulator.result()
    before = first.density.copy()
    accumulator.add(points[100:], values[100:], weights[100:])
    once = Accumulator(GRID, 3)
    once.add(points, values, weights)
    assert np.allclose(accumulator.result().mean, once.result().mean, atol=1e-12)
    assert np.array_equal(first.density, before)


def test_sums_float32_values_in_float64():
    n = 4000
    values = np.full((n, 1), 1e4 + 1 / 3, dtype=np.float32)
    values[::2] *= -1
    values[0] += 1
    accumulator = Accumulator(Grid(np.zeros(3), 1.0, (1, 1, 1)), 1)
    accumulator.add(np.full((n, 3), 0.5), values, np.ones(n))
    assert accumulator.result().mean[0, 0] == pytest.approx(values.astype(np.float64).mean(), rel=1e-9)


def test_memory_follows_the_tissue_not_the_box():
    grid = Grid(np.zeros(3), 1.0, (2_000_000, 2_000_000, 2_000_000))
    corners = np.array([[0.5, 0.5, 0.5], [1_999_999.5, 1_999_999.5, 1_999_999.5], [1_999_999.5, 0.5, 0.5]])
    accumulator = Accumulator(grid, 1)
    accumulator.add(corners, [[1.0], [2.0], [3.0]], [1, 1, 1])
    voxels = accumulator.result()
    assert voxels.index.tolist() == [[0, 0, 0], [1_999_999, 0, 0], [1_999_999] * 3]
    assert voxels.mean[:, 0].tolist() == [1, 3, 2]


def test_weight_zero_leaves_no_trace():
    accumulator = Accumulator(GRID, 1)
    accumulator.add([[0.0, 0.0, 5.5], [1.0, 0.0, 5.5]], [[7.0], [8.0]], [0, 2])
    voxels = accumulator.result()
    assert voxels.density.tolist() == [2]
    assert accumulator.n_outside == 0


def test_nothing_added_gives_no_voxels():
    accumulator = Accumulator(GRID, 2)
    accumulator.add(np.empty((0, 3)), np.empty((0, 2)), np.empty(0))
    voxels = accumulator.result()
    assert (voxels.index.shape, voxels.density.shape, voxels.mean.shape) == ((0, 3), (0,), (0, 2))


@pytest.mark.parametrize(
    ("points", "values", "weights", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 1)), np.ones(2), "shapes"),
        (np.zeros((2, 3)), np.zeros((2, 2)), np.ones(2), "shapes"),
        (np.zeros((2, 3)), np.zeros((2, 1)), np.ones(3), "shapes"),
        (np.full((2, 3), np.nan), np.zeros((2, 1)), np.ones(2), "diverged"),
        (np.zeros((2, 3)), np.zeros((2, 1)), -np.ones(2), "not negative"),
        (np.zeros((2, 3)), np.zeros((2, 1)), np.full(2, np.inf), "finite"),
    ],
)
def test_bad_points_are_refused(points, values, weights, message):
    with pytest.raises(ValueError, match=message):
        Accumulator(GRID, 1).add(points, values, weights)
