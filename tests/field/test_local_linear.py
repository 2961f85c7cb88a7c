from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from isost.field import Estimate, LocalLinear
from isost.field import _local_linear as module

if TYPE_CHECKING:
    from numpy.typing import NDArray

RIDGE = 1e-2


def _cells(n: int, *, n_values: int = 3, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.random((n, 2)), rng.normal(size=(n, n_values))


def _fitted_plane(
    position: NDArray[np.float64], values: NDArray[np.float64], query: NDArray[np.float64], *, n_cells: int
) -> Estimate:
    """One weighted least squares problem a query point; the ridge is two more rows of data."""
    means, leverages = [], []
    for place in query:
        distance = np.linalg.norm(position - place, axis=1)
        cells = distance.argsort()[:n_cells]
        width = 1.0001 * distance[cells[-1]]
        weight = (1 - (distance[cells] / width) ** 3) ** 3
        root = np.sqrt(weight)[:, None]
        design = np.c_[np.ones(len(cells)), (position[cells] - place) / width] * root
        ridge = np.sqrt(RIDGE * weight.sum()) * np.eye(3)[1:]
        solver = np.linalg.pinv(np.r_[design, ridge])[0, : len(cells)] * root[:, 0]
        means.append(solver @ values[cells])
        leverages.append((solver**2).sum())
    return Estimate(np.array(means), np.array(leverages))


@pytest.mark.parametrize("n_cells", [4, 12, 40])
def test_equals_a_plane_fitted_at_every_point(n_cells: int) -> None:
    position, values = _cells(80)
    query = np.random.default_rng(1).uniform(-0.3, 1.3, (50, 2))
    found = LocalLinear(position, values, n_cells=n_cells)(query)
    wanted = _fitted_plane(position, values, query, n_cells=n_cells)
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.leverage, wanted.leverage, rtol=1e-8)


def test_linear_function_is_exact_in_even_windows_and_nearly_so_inside() -> None:
    def plane(place: NDArray[np.float64]) -> NDArray[np.float64]:
        return place @ [[1.0, -2.0], [3.0, 0.5]] + [4.0, 5.0]

    grid = np.stack(np.meshgrid(np.arange(11.0), np.arange(11.0)), axis=-1).reshape(-1, 2)
    smooth = LocalLinear(grid, plane(grid), n_cells=21)  # the cells within √5 steps
    inside = grid[((grid > 2) & (grid < 8)).all(1)]
    np.testing.assert_allclose(smooth(inside).mean, plane(inside), atol=1e-10)

    position, _ = _cells(500)
    inside = np.random.default_rng(1).uniform(0.25, 0.75, (40, 2))
    error = LocalLinear(position, plane(position), n_cells=40)(inside).mean - plane(inside)
    assert np.abs(error).max() < 0.02 * np.ptp(plane(position))


def test_less_bias_at_the_edge_than_a_local_mean() -> None:
    position, _ = _cells(2000)
    edge = np.c_[np.zeros(50), np.linspace(0.2, 0.8, 50)]
    bias = LocalLinear(position, position[:, :1], n_cells=40)(edge).mean.mean()
    distance = np.linalg.norm(position[None] - edge[:, None], axis=2)
    local_mean = np.take_along_axis(position[None, :, 0], distance.argsort(axis=1)[:, :40], axis=1).mean()
    assert abs(bias) < 0.25 * local_mean


def test_constants_are_exact_everywhere() -> None:
    position, _ = _cells(60)
    query = np.r_[position[:5], np.geomspace(1, 1e6, 20)[:, None] * [1.0, -0.5]]
    np.testing.assert_allclose(LocalLinear(position, np.full((60, 1), 7.0), n_cells=20)(query).mean, 7.0, rtol=1e-6)


def test_leverage_is_the_sampling_variance() -> None:
    position, _ = _cells(100)
    draws = np.random.default_rng(1).normal(size=(100, 20_000))
    query = np.random.default_rng(2).uniform(-0.1, 1.1, (10, 2))
    found = LocalLinear(position, draws, n_cells=25)(query)
    np.testing.assert_allclose(found.mean.var(axis=1), found.leverage, rtol=0.05)


def test_skip_nearest_leaves_the_cell_out() -> None:
    position, values = _cells(60)
    found = LocalLinear(position, values, n_cells=15)(position, skip_nearest=True)
    for i in range(60):
        others = np.arange(60) != i
        wanted = LocalLinear(position[others], values[others], n_cells=15)(position[i : i + 1])
        np.testing.assert_allclose(found.mean[i], wanted.mean[0], rtol=1e-8)
        np.testing.assert_allclose(found.leverage[i], wanted.leverage[0], rtol=1e-8)


def test_skip_nearest_with_a_window_over_everything() -> None:
    position, values = _cells(6)
    found = LocalLinear(position, values, n_cells=100)(position, skip_nearest=True)
    wanted = LocalLinear(position[1:], values[1:], n_cells=5)(position[:1])
    np.testing.assert_allclose(found.mean[0], wanted.mean[0], rtol=1e-8)


def test_far_outside_stays_bounded() -> None:
    position, _ = _cells(200)
    values = position[:, :1]  # a plane that would rise without end
    far = np.geomspace(0.1, 1e8, 60)[:, None] * [1.0, 0.3] + 0.5
    for n_cells in (10, 50, 200):
        found = LocalLinear(position, values, n_cells=n_cells)(far)
        assert np.abs(found.mean - values.mean()).max() < 6 * values.std()
        assert np.isfinite(found.leverage).all()


@pytest.mark.parametrize("n_cells", [1, 2, 3, 50])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_cells(n: int, n_cells: int) -> None:
    position, values = _cells(n)
    smooth = LocalLinear(position, values, n_cells=n_cells)
    assert smooth.n_cells == min(n, n_cells)
    query = np.r_[position, np.random.default_rng(1).uniform(-5, 5, (20, 2))]
    found = smooth(query)
    assert np.isfinite(found.mean).all()
    assert (found.leverage <= 10).all()
    if smooth.n_cells == 1:
        distance = np.linalg.norm(query[:, None] - position[None], axis=2)
        np.testing.assert_allclose(found.mean, values[distance.argmin(1)])
        np.testing.assert_allclose(found.leverage, 1)


def test_where_no_surroundings_are_alike_the_most_alike_count() -> None:
    # on a lattice the pilot's four cells next to its own lie on the edge of its window: it is each cell's own value
    rng = np.random.default_rng(0)
    position = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), axis=-1).reshape(-1, 2)
    position += rng.normal(scale=0.02, size=position.shape)
    values = rng.normal(size=(len(position), 4))
    found = LocalLinear(position, values, n_cells=8, adaptive=True)(position, skip_nearest=True)
    assert np.isfinite(found.mean).all()
    assert (found.leverage > 0).all()


def test_the_only_cell_cannot_be_left_out() -> None:
    position, values = _cells(1)
    with pytest.raises(ValueError, match="the only cell"):
        LocalLinear(position, values, n_cells=1)(position, skip_nearest=True)


def test_cells_at_one_place_are_averaged() -> None:
    position, values = _cells(4)
    crowd, many = np.repeat(position[:1], 30, axis=0), np.random.default_rng(1).normal(size=(30, 2))
    alone = LocalLinear(crowd, many, n_cells=30)(np.r_[crowd[:1], [[3.0, 3.0]]])
    np.testing.assert_allclose(alone.mean, many.mean(0)[None].repeat(2, axis=0))
    np.testing.assert_allclose(alone.leverage, 1 / 30)
    twice = LocalLinear(position.repeat(2, axis=0), values.repeat(2, axis=0), n_cells=8)(position)
    np.testing.assert_allclose(twice.mean, LocalLinear(position, values, n_cells=4)(position).mean)


def test_far_from_the_origin_and_in_any_unit() -> None:
    position, values = _cells(100)
    query = position[:20] + 0.01
    wanted = LocalLinear(position, values, n_cells=20)(query).mean
    moved = LocalLinear(position * 300 + 1e6, values, n_cells=20)(query * 300 + 1e6).mean
    np.testing.assert_allclose(moved, wanted, rtol=1e-5, atol=1e-6)


def test_float32_cells_are_found_at_their_own_place() -> None:
    position = np.float32(1e4 + _cells(50)[0])
    found = LocalLinear(position, np.arange(50.0)[:, None], n_cells=1)(position)
    np.testing.assert_array_equal(found.mean[:, 0], np.arange(50))


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    position, values = _cells(60)
    smooth = LocalLinear(position, values, n_cells=10)
    whole = smooth(position)
    monkeypatch.setattr(module, "_BLOCK", 7)
    parts = smooth(position)
    np.testing.assert_array_equal(parts.mean, whole.mean)
    np.testing.assert_array_equal(parts.leverage, whole.leverage)
    assert smooth(np.empty((0, 2))).mean.shape == (0, 3)
