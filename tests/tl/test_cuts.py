from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from isost.tl._cuts import DepthCut, PlaneCut, as_cuts, is_single
from isost.tl._inputs import Sections

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

DEPTHS = np.linspace(0.0, 100.0, 41)  # frames 2.5 apart


def plane(origin: Any, normal: Any, *, thickness: float = 5.0) -> PlaneCut:
    unit = np.array(normal, float) / np.linalg.norm(normal)
    return PlaneCut(np.array(origin, float), unit, thickness, 5.0, DEPTHS, (-2.5, 102.5))


def columns(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every frame at every place (n, 2): (n · frames, 3)."""
    return np.column_stack([np.repeat(places, len(DEPTHS), axis=0), np.tile(DEPTHS, len(places))])


@pytest.mark.parametrize("depth", [0.0, 1.0, 2.5, 33.3, 50.0, 51.25, 99.0, 100.0])
@pytest.mark.parametrize("thickness", [5.0, 6.7, 2.6])
def test_a_horizontal_slab_takes_its_thickness_in_units_of_the_spacing(depth: float, thickness: float) -> None:
    cut = plane([7.0, 7.0, depth], [0.0, 0.0, 1.0], thickness=thickness)
    low, high = max(depth - thickness / 2, -2.5), min(depth + thickness / 2, 102.5)
    assert cut.shares(columns(np.zeros((1, 2)))).sum() == pytest.approx((high - low) / 5.0)


@pytest.mark.parametrize("normal", [(1, 0, 1), (0.2, -0.4, 1), (1, 2, -0.5)])
def test_an_oblique_slab_takes_in_every_column_what_its_height_there_is_worth(normal: Any) -> None:
    cut = plane([0.0, 0.0, 50.0], normal)
    places = np.random.default_rng(0).uniform(-15, 15, (200, 2))
    shares = cut.shares(columns(places)).reshape(len(places), -1)
    height = 5.0 / abs(cut.normal[2])
    middle = 50.0 - places @ cut.normal[:2] / cut.normal[2]
    inner = (middle - height / 2 > 0) & (middle + height / 2 < 100)
    assert inner.any()
    np.testing.assert_allclose(shares[inner].sum(1), height / 5.0)
    off = np.abs((columns(places) - cut.origin) @ cut.normal).reshape(shares.shape)
    np.testing.assert_array_equal(shares > 0, off <= 2.5 + 1e-12)
    assert shares.max() < 1


def test_a_vertical_slab_takes_whole_columns_or_nothing() -> None:
    cut = plane([10.0, 0.0, 50.0], [1.0, 0.0, 0.0])
    places = np.array([[10.0, 3.0], [12.4, -50.0], [12.6, 0.0], [7.4, 0.0]])
    total = cut.shares(columns(places)).reshape(4, -1).sum(1)
    np.testing.assert_allclose(total, [21.0, 21.0, 0.0, 0.0])  # sections are 5 thick: 105 in all


def test_a_depth_takes_every_cell() -> None:
    cut = DepthCut(np.array([3.0]))
    places = np.random.default_rng(0).random((5, 3))
    np.testing.assert_array_equal(cut.shares(places), 1.0)
    np.testing.assert_array_equal(cut.flatten(places), places[:, :2])


@pytest.mark.parametrize(
    ("normal", "first", "second"),
    [
        ((0, 0, 1), 0, 1),
        ((0, 0, -1), 0, 1),
        ((0, 1, 0), 0, 2),
        ((0, -1, 0), 0, 2),
        ((1, 0, 0), 1, 2),
        ((-1, 0, 0), 1, 2),
    ],
)
def test_coordinates_in_a_plane_grow_with_those_of_space(normal: Any, first: int, second: int) -> None:
    places = np.random.default_rng(0).random((6, 3))
    flat = plane([0.1, 0.2, 0.3], normal).flatten(places)
    np.testing.assert_allclose(flat, (places - [0.1, 0.2, 0.3])[:, [first, second]], atol=1e-12)


def test_coordinates_in_a_plane_keep_distances() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        cut = plane(rng.normal(size=3), rng.normal(size=3))
        inside = rng.normal(size=(8, 3))
        inside -= ((inside - cut.origin) @ cut.normal)[:, None] * cut.normal
        flat = cut.flatten(inside)
        for i in range(8):
            np.testing.assert_allclose(
                np.linalg.norm(flat - flat[i], axis=1), np.linalg.norm(inside - inside[i], axis=1), atol=1e-12
            )


def test_one_is_told_from_a_list() -> None:
    pair = ([0, 0, 1], [0, 0, 1])
    assert is_single(z=3.0)
    assert not is_single(z=[3.0])
    assert not is_single(z=np.array([3.0]))
    assert is_single(plane=pair)
    assert is_single(plane=np.array(pair))
    assert not is_single(plane=[pair])
    assert not is_single(plane=np.array([pair, pair]))


def test_frames_are_only_where_the_slab_meets_the_tissue(stack: AnnData) -> None:
    sections = Sections(stack)
    (flat,) = as_cuts(sections, z=None, plane=([0, 0, 90.0], [0, 0, 1]), thickness=10.0)
    assert isinstance(flat, PlaneCut)
    assert (np.abs(flat.depths - 90.0) <= 5.0).all()
    assert len(flat.depths) >= 2
    (upright,) = as_cuts(sections, z=None, plane=([0, 0, 90.0], [0, 1, 0]), thickness=10.0)
    assert upright.depths[[0, -1]].tolist() == [0.0, 180.0]
    assert np.diff(upright.depths).max() <= 5.0


def test_cells_that_coincide_leave_no_spacing_for_a_plane(stack: AnnData) -> None:
    sections = Sections(stack)
    sections.positions = [np.repeat(p, 2, axis=0) for p in sections.positions]
    with pytest.raises(ValueError, match="exactly on another cell"):
        as_cuts(sections, z=None, plane=([0, 0, 90.0], [0, 1, 0]), thickness=None)
