"""Where generated cells are: what an analyst sees first, against what is known of the tissue."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial import cKDTree

import isost
from isost.datasets._organ import Organ
from isost.datasets._shape import CAVITY

if TYPE_CHECKING:
    from numpy.typing import NDArray

Generated = tuple[AnnData, AnnData]  # a stack, and cells generated at several depths of it
FRACTIONS = (0.1, 0.25, 0.5, 0.75, 0.9)


def spacing(places: NDArray[np.float64]) -> float:
    """Median distance to the nearest neighbour in x and y."""
    return float(np.median(cKDTree(places[:, :2]).query(places[:, :2], 2)[0][:, 1]))


def with_expression(places: NDArray[np.float64], *, seed: int) -> AnnData:
    """Cells with six genes that change over the tissue, whose width is 1, and six that do not."""
    rng = np.random.default_rng(seed)
    x, y = ((places - places.min(0)) / np.ptp(places, axis=0)).T
    patterns = [x, 1 - x, y, 1 - y, np.sin(5 * x) ** 2, np.cos(5 * y) ** 2, *rng.random((6, len(places)))]
    section = AnnData(np.log1p(rng.poisson(5 * np.column_stack(patterns))).astype(np.float32))
    section.obsm["spatial"] = places
    return section


def generated(stack: AnnData, **fit_kws: Any) -> Generated:
    model = isost.tl.fit(stack, progress=False, **fit_kws)
    z = stack.uns["isost"]["sections"]["z"]
    depths = [float((1 - t) * low + t * high) for low, high in pairwise(z) for t in FRACTIONS]
    return stack, isost.tl.section(stack, model=model, z=depths)


def cuts(found: Generated) -> list[tuple[AnnData, int, float]]:
    """Every generated section, the gap that it lies in, and at which fraction of it."""
    _, cells = found
    n_cuts = cells.obs["cut"].max() + 1
    where = [(gap, t) for gap in range(n_cuts // len(FRACTIONS)) for t in FRACTIONS]
    return [(cells[cells.obs["cut"] == i], *where[i]) for i in range(n_cuts)]


def section_of(stack: AnnData, k: int) -> AnnData:
    return stack[stack.obs["section"] == stack.obs["section"].cat.categories[k]]


def organ_of(sections: list[AnnData], **fit_kws: Any) -> Generated:
    stack, cells = generated(isost.pp.slice_stack(sections), **fit_kws)
    cells.uns["organ"] = sections[0].uns["organ"]
    return stack, cells


@pytest.fixture(scope="module")
def organ() -> Generated:
    return organ_of(isost.datasets.organ(n_sections=4, cells_per_section=500, n_genes=40, uneven=True), epochs=150)


def arc(radius: float, *, seed: int) -> AnnData:
    """300 cells on half a circle, 4 wide."""
    rng = np.random.default_rng(seed)
    angle, reach = rng.uniform(0, np.pi, 300), radius + rng.uniform(-2, 2, 300)
    return with_expression(np.column_stack([reach * np.cos(angle), reach * np.sin(angle)]), seed=seed)


@pytest.fixture(scope="module")
def arcs() -> Generated:
    sections = [arc(300.0, seed=0), arc(360.0, seed=1)]
    return generated(isost.pp.slice_stack(sections, z=[0.0, 60.0]), epochs=100)


def lattice(*, seed: int, shift: float = 0.0) -> AnnData:
    """400 cells on a square lattice of pitch 10, each a little off its place."""
    rng = np.random.default_rng(seed)
    places = 10.0 * np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    return with_expression(places + shift + rng.normal(scale=1.0, size=places.shape), seed=seed)


def test_a_layer_moves_and_leaves_no_ghosts(arcs: Generated) -> None:
    for cells, _, t in cuts(arcs):
        radius = np.hypot(*cells.obsm["spatial"][:, :2].T)
        # half the layer's width of 4, and 2 for what the drift is off over a way of 60
        assert np.abs(radius - (300 + 60 * t)).max() < 4
    (middle,) = (cells for cells, _, t in cuts(arcs) if t == 0.5)
    angle = np.arctan2(middle.obsm["spatial"][:, 1], middle.obsm["spatial"][:, 0])
    assert np.histogram(angle, bins=6, range=(0, np.pi))[0].min() > 30  # the whole arc, which has 50 in each part


def test_numbers_of_cells_change_on_a_line_from_section_to_section(organ: Generated, arcs: Generated) -> None:
    for found in (organ, arcs):
        sizes = found[0].obs["section"].value_counts(sort=False).to_numpy()
        for cells, gap, t in cuts(found):
            assert abs(cells.n_obs - ((1 - t) * sizes[gap] + t * sizes[gap + 1])) <= 1


def assert_spaced_as_their_neighbours(found: Generated) -> None:
    measured = [spacing(section_of(found[0], k).obsm["spatial"]) for k in range(len(found[0].obs["section"].unique()))]
    for cells, gap, t in cuts(found):
        expected = (1 - t) * measured[gap] + t * measured[gap + 1]
        assert spacing(cells.obsm["spatial"]) == pytest.approx(expected, rel=0.1), (gap, t)


def test_cells_are_as_far_apart_as_in_the_sections_around(organ: Generated) -> None:
    assert_spaced_as_their_neighbours(organ)


@pytest.mark.parametrize(
    "shift",
    [
        0.0,
        pytest.param(
            5.0,
            marks=pytest.mark.xfail(
                strict=True,
                reason="lattices half a pitch apart: drawing from both at once leaves pairs nearer than either has",
            ),
        ),
    ],
)
def test_cells_of_a_lattice_are_as_far_apart_as_in_the_sections_around(shift: float) -> None:
    sections = [lattice(seed=0), lattice(seed=1, shift=shift)]
    assert_spaced_as_their_neighbours(generated(isost.pp.slice_stack(sections, z=[0.0, 20.0]), epochs=100))


def n_in_open_cavity(found: Generated) -> int:
    """Cells in the cavity, at places where both sections around have it too."""
    stack, cells = found
    truth = Organ(**cells.uns["organ"])
    z = stack.uns["isost"]["sections"]["z"]

    def in_cavity(places: NDArray[np.float64], depth: float) -> NDArray[np.bool_]:
        x, y = places[:, :2].T / truth.radius
        return np.asarray(CAVITY.level(x, y, np.full(len(places), depth / truth.depth)) < 1)

    lost = 0
    for part, gap, _ in cuts(found):
        places = part.obsm["spatial"]
        lost += int((in_cavity(places, z[gap]) & in_cavity(places, z[gap + 1]) & ~truth.inside(places)).sum())
    return lost


def test_no_cells_in_a_cavity_that_is_open_in_both_sections_around(organ: Generated) -> None:
    assert n_in_open_cavity(organ) == 0


@pytest.mark.xfail(
    strict=True,
    reason="where a narrow end of the cavity shifts, transport carries the tissue it takes on one side across it to "
    "the other, where as much appears; 16 of 1,765 cells",
)
def test_no_cells_in_the_narrow_ends_of_a_cavity() -> None:
    sections = isost.datasets.organ(n_sections=4, n_genes=40)[:2]
    assert n_in_open_cavity(organ_of(sections, epochs=150)) == 0


def test_everything_generated_says_where_it_is_from(organ: Generated, arcs: Generated) -> None:
    for found in (organ, arcs):
        z, names = (np.asarray(found[0].uns["isost"]["sections"][key]) for key in ("z", "names"))
        sizes = found[0].obs["section"].value_counts(sort=False).to_numpy()
        for cells, gap, t in cuts(found):
            assert not cells.obs["measured"].any()
            assert set(cells.obs["source_section"]) == set(names[[gap, gap + 1]])
            from_above = (cells.obs["source_section"] == names[gap + 1]).sum()
            assert from_above == pytest.approx(t * sizes[gap + 1], abs=0.05 * cells.n_obs)
            np.testing.assert_allclose(cells.obs["section_distance"], min(t, 1 - t) * (z[gap + 1] - z[gap]))
