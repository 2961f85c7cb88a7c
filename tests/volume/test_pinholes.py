from __future__ import annotations

import numpy as np
import pytest

from isost.volume import Grid, fill_pinholes

GRID = Grid.covering([0.0, 0.0, 0.0], [11.0, 9.0, 2.0], 1.0)


def filled(*empty: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A layer full of tissue but for some voxels and the outermost ones, before and after."""
    rng = np.random.default_rng(0)
    before = np.zeros(GRID.shape)
    before[1:-1, 1:-1, 1] = rng.uniform(0.5, 1.5, (GRID.shape[0] - 2, GRID.shape[1] - 2))
    for x, y in empty:
        before[x, y, 1] = 0
    index = np.argwhere(before)[np.lexsort(np.argwhere(before).T[[0, 1]])]
    found, density = fill_pinholes(index, before[tuple(index.T)], GRID)
    assert (np.diff(found[:, 1] * GRID.shape[0] + found[:, 0]) > 0).all()
    after = np.zeros(GRID.shape)
    after[tuple(found.T)] = density
    assert after.sum() == pytest.approx(before.sum())
    return before, after


@pytest.mark.parametrize("hole", [[(4, 4)], [(4, 4), (5, 4), (6, 4), (7, 4)], [(2, 2), (3, 3)]])
def test_a_pinhole_gets_the_density_around_it(hole: list[tuple[int, int]]) -> None:
    before, after = filled(*hole)
    scale = after[5, 6, 1] / before[5, 6, 1]
    for x, y in hole:
        around = before[x - 1 : x + 2, y - 1 : y + 2, 1]
        assert after[x, y, 1] == pytest.approx(scale * around[around > 0].mean())
    full = before > 0
    np.testing.assert_allclose(after[full], scale * before[full])


@pytest.mark.parametrize("hole", [[(x, 4) for x in range(3, 8)], [(1, 4)], [(1, 4), (2, 4)]])
def test_cavities_and_bays_stay(hole: list[tuple[int, int]]) -> None:
    before, after = filled(*hole)
    np.testing.assert_allclose(after, before)


def test_nothing_is_still_nothing() -> None:
    index, density = fill_pinholes(np.empty((0, 3), np.int64), np.empty(0), GRID)
    assert len(index) == len(density) == 0
