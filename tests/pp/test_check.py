from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import isost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

NAMES = ["s0", "s1", "s2", "s3", "s4"]
MIDDLE = "s2"


@pytest.fixture(scope="module")
def organ() -> dict[str, AnnData]:
    return dict(zip(NAMES, isost.datasets.organ(n_sections=5, cells_per_section=300, n_genes=60), strict=True))


@pytest.fixture
def sections(organ: dict[str, AnnData]) -> dict[str, AnnData]:
    return {name: section.copy() for name, section in organ.items()}


def move(section: AnnData, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
    center = section.obsm["spatial"].mean(0)
    section.obsm["spatial"] = change(section.obsm["spatial"] - center) + center


def rotated(degrees: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return lambda places: places @ np.array([[cos, sin], [-sin, cos]])


def found(sections: Any, **kws: Any) -> list[tuple[str, str, str]]:
    report = isost.pp.check(sections, **kws)
    return list(report[["severity", "section", "check"]].itertuples(index=False, name=None))


def test_nothing_is_found_where_all_is_well(organ: dict[str, AnnData]) -> None:
    report = isost.pp.check(organ)
    assert report.empty
    assert list(report.columns) == ["severity", "section", "check", "number", "message", "advice"]


@pytest.mark.parametrize("seed", range(3))
def test_other_organs_and_sections_left_out_are_well_too(seed: int) -> None:
    sections = isost.datasets.organ(n_sections=6, cells_per_section=250, n_genes=40, uneven=True, seed=seed)
    assert not found(sections)
    assert not found(sections[::2])
    assert not found(sections[:2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda places: places * [-1, 1], None),
        (rotated(90), 90),
        (rotated(-135), 135),
    ],
)
def test_a_turned_section_is_named(sections: dict[str, AnnData], name: str, change: Any, number: float | None) -> None:
    move(sections[name], change)
    report = isost.pp.check(sections)
    assert found(sections) == [("warning", name, "registration")]
    assert ("mirrored" in report["message"][0]) == (number is None)
    if number is not None:
        assert report["number"][0] == pytest.approx(number, abs=15)


def test_a_shifted_section_is_named(sections: dict[str, AnnData]) -> None:
    move(sections[MIDDLE], lambda places: places + np.array([0.15 * np.ptp(places[:, 0]), 0]))
    report = isost.pp.check(sections)
    assert found(sections) == [("warning", MIDDLE, "registration")]
    assert report["number"][0] == pytest.approx(0.15, abs=0.05)


@pytest.mark.parametrize(("factor", "large"), [(1e-3, False), (1e3, True)])
def test_millimetres_beside_micrometres(sections: dict[str, AnnData], factor: float, large: bool) -> None:
    for section in sections.values():
        section.obs["z"] *= factor
    report = isost.pp.check(sections)
    assert found(sections) == [("warning", "", "units")]
    assert f"z looks too {'large' if large else 'small'}" in report["message"][0]


def test_gaps(sections: dict[str, AnnData]) -> None:
    sections["s4"].obs["z"] += 400.0
    assert found(sections) == [("warning", "s4", "gaps")]
    sections["s4"].obs["z"] = float(sections["s3"].obs["z"].iloc[0]) + 1.0
    assert ("warning", "s4", "gaps") in found(sections)


def test_order_is_a_note(sections: dict[str, AnnData]) -> None:
    assert found({name: sections[name] for name in reversed(NAMES)}) == []
    assert found({name: sections[name] for name in ("s0", "s2", "s1", "s3", "s4")}) == [("note", "", "order")]


@pytest.mark.parametrize(("name", "factor"), [("s0", 1.8), (MIDDLE, 1.4)])
def test_batch(sections: dict[str, AnnData], name: str, factor: float) -> None:
    sections[name].X = sections[name].X * factor
    report = isost.pp.check(sections)
    assert found(sections) == [("warning", name, "batch")]
    assert 0.12 < report["number"][0] < 0.6


def test_raw_and_unlogged(sections: dict[str, AnnData]) -> None:
    mixed = sections | {"s1": sections["s1"].copy()}
    mixed["s1"].X = sparse.csr_matrix(np.rint(np.expm1(mixed["s1"].X.toarray())))
    assert ("warning", "s1", "counts") in found(mixed)
    for section in sections.values():
        section.X = sparse.csr_matrix(np.expm1(section.X.toarray()))
    assert ("warning", "", "counts") in found(sections)
    for section in sections.values():
        section.X = section.X.rint()
    assert ("warning", "", "counts") in found(sections)


def test_scores_that_may_be_negative_are_not_taken_for_unlogged(sections: dict[str, AnnData]) -> None:
    for section in sections.values():
        section.X = (section.X.toarray() - 1) * 50
    assert not found(sections)


def test_genes(sections: dict[str, AnnData]) -> None:
    sections["s3"] = sections["s3"][:, :20].copy()
    assert ("warning", "s3", "genes") in found(sections)
    assert found(sections, genes=list(sections["s3"].var_names)) == []


def test_cells(sections: dict[str, AnnData]) -> None:
    sections["s1"].obsm["spatial"][:30] = sections["s1"].obsm["spatial"][30:60]
    move(sections["s2"], lambda places: np.concatenate([[[3000.0, 0.0]], places[1:]]))
    sections["s3"] = sections["s3"][:40].copy()
    assert {("warning", "s1", "duplicates"), ("warning", "s2", "outliers"), ("warning", "s3", "numbers")} <= set(
        found(sections)
    )


def test_scale(sections: dict[str, AnnData]) -> None:
    move(sections["s1"], lambda places: places / 1000)
    assert ("warning", "s1", "scale") in found(sections)


@pytest.mark.parametrize(
    ("spoil", "section", "message"),
    [
        (lambda sections: sections.clear(), "", "at least two sections are needed"),
        (lambda sections: sections.update(s1=sections["s1"][:3].copy()), "s1", "has 3 points"),
        (lambda sections: sections["s1"].obsm.pop("spatial"), "s1", r"no obsm\['spatial'\]"),
        (lambda sections: sections["s1"].X.data.fill(np.nan), "s1", "NaN or infinite"),
        (lambda sections: sections["s1"].obs.__setitem__("z", 0.0), "", "same z"),
        (lambda sections: [section.X.data.fill(0) for section in sections.values()], "", "the same at all points"),
    ],
)
def test_what_slice_stack_raises_is_an_error(
    sections: dict[str, AnnData], spoil: Any, section: str, message: str
) -> None:
    spoil(sections)
    report = isost.pp.check(sections)
    assert set(report["severity"]) == {"error"}
    assert report["section"][0] == section
    assert report["message"].str.contains(message)[0]
    with pytest.raises((KeyError, ValueError), match=message):
        isost.pp.slice_stack(sections)


def test_every_bad_section_is_named(sections: dict[str, AnnData]) -> None:
    del sections["s1"].obsm["spatial"]
    sections["s3"].obsm["spatial"][:] = np.nan
    assert found(sections) == [("error", "s1", "input"), ("error", "s3", "input")]


def test_the_stack_warns_of_what_is_found_unless_told_not_to(sections: dict[str, AnnData]) -> None:
    move(sections[MIDDLE], rotated(90))
    with pytest.warns(UserWarning, match=r"'s2' looks rotated by about .*°.*; look at it beside them") as caught:
        isost.pp.slice_stack(sections)
    assert caught[0].filename == __file__
    isost.pp.slice_stack(sections, check=False)


def test_few_genes_tell_nothing_of_batches_and_registration(sections: dict[str, AnnData]) -> None:
    move(sections[MIDDLE], rotated(90))
    sections[MIDDLE].X = sections[MIDDLE].X * 1.4
    assert not found(sections, genes=list(sections[MIDDLE].var_names[:5]))


def test_nothing_is_changed(sections: dict[str, AnnData], organ: dict[str, AnnData]) -> None:
    isost.pp.check(sections)
    for name, section in sections.items():
        pd.testing.assert_frame_equal(section.obs, organ[name].obs)
        assert (section.X != organ[name].X).nnz == 0
        np.testing.assert_array_equal(section.obsm["spatial"], organ[name].obsm["spatial"])


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["merfish_hypothalamus_poa_5sections", "drosophila_bdtnp_stage5", "ra_synovium_RA2_3dst"]
)
def test_measured_sections_raise_no_false_alarm(data_dir: Path, name: str) -> None:
    measured = ad.read_h5ad(data_dir / f"{name}.h5ad")
    if name.startswith("merfish"):  # as given it is not logged
        assert found(measured) == [("warning", "", "counts")]
        measured.X = np.log1p(measured.X)
    assert found(measured) == []
