"""What is wrong with sections is said before any training, with the section's name and what mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import isost
from isost.tl import _reconstruct

if TYPE_CHECKING:
    from anndata import AnnData


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any, **__: Any) -> None:
        pytest.fail("training began before the sections were checked")

    monkeypatch.setattr(_reconstruct, "fit", fit)


@pytest.fixture
def sections(organ_sections: list[AnnData]) -> list[AnnData]:
    return [section[:60].copy() for section in organ_sections[:3]]


def refused(sections: Any, error: type[Exception], message: str, **kws: Any) -> None:
    with pytest.raises(error, match=message):
        isost.tl.reconstruct(sections, **kws)


def test_one_section(sections: list[AnnData]) -> None:
    refused(sections[:1], ValueError, r"at least two sections are needed.* but got 1; to split one AnnData by obs")
    refused(sections[0], ValueError, r"at least two sections are needed.* but got 1")
    refused([], ValueError, "but got 0")


def test_no_shared_genes(sections: list[AnnData]) -> None:
    sections[1].var_names = [f"other{i}" for i in range(sections[1].n_vars)]
    refused(
        sections, ValueError, r"share no genes; do all var_names hold the same kind of name\?.*'section1': \['other0'"
    )


def test_no_depth(sections: list[AnnData]) -> None:
    del sections[2].obs["z"]
    refused(sections, KeyError, r"section 'section2' has no depth: neither obs\['z'\] nor a third column .* pass z= ")


def test_two_sections_at_one_depth(sections: list[AnnData]) -> None:
    sections[2].obs["z"] = sections[1].obs["z"].iloc[0]
    refused(sections, ValueError, "sections 'section1' and 'section2' lie at the same z = .* pass their depths as z=")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers(sections: list[AnnData], bad: float) -> None:
    expression = [section.copy() for section in sections]
    expression[1].X.data[3] = bad
    refused(expression, ValueError, "expression of section 'section1' has NaN or infinite values; drop these")
    places = [section.copy() for section in sections]
    places[0].obsm["spatial"][5, 1] = bad
    refused(places, ValueError, "of section 'section0' is NaN or infinite at 1 points; drop these points")
    depths = [section.copy() for section in sections]
    depths[2].obs.loc[depths[2].obs_names[0], "z"] = bad
    refused(depths, ValueError, r"obs\['z'\] of section 'section2' must be finite numbers; pass z=")


def test_fewer_cells_than_neighbours(sections: list[AnnData]) -> None:
    sections[1] = sections[1][:4].copy()
    refused(
        sections, ValueError, "section 'section1' has 4 points, but at least 6 are needed .*; leave the section out"
    )


@pytest.mark.parametrize("columns", [1, 4])
def test_coordinates_of_another_width(sections: list[AnnData], columns: int) -> None:
    sections[1].obsm["spatial"] = np.random.default_rng(0).random((60, columns))
    refused(sections, ValueError, rf"of section 'section1' has shape \(60, {columns}\), but must have 2 or 3 columns")


def test_coordinates_elsewhere(sections: list[AnnData]) -> None:
    sections[0].obsm["xy"] = sections[0].obsm.pop("spatial")
    refused(sections, KeyError, r"section 'section0' has no obsm\['spatial'\]; pass spatial_key= \(obsm has \['xy'\]\)")


def test_cells_at_one_place(sections: list[AnnData]) -> None:
    sections[2].obsm["spatial"][:] = 3.0
    refused(sections, ValueError, "all points of section 'section2' lie at one place .* pass registered coordinates")


def test_genes_and_voxels_that_cannot_be(sections: list[AnnData]) -> None:
    refused(sections, KeyError, "nosuch", genes=["nosuch"])
    refused(sections, ValueError, "voxel_size must be a positive number", voxel_size=-3.0)


def test_cells_on_top_of_each_other_leave_no_spacing(sections: list[AnnData]) -> None:
    for section in sections:
        section.obsm["spatial"][1::2] = section.obsm["spatial"][::2]
    refused(sections, ValueError, "pass voxel_size", stack_kws={"check": False})


def test_something_else(sections: list[AnnData]) -> None:
    refused("sections.h5ad", TypeError, "list or dict of AnnData, or one AnnData, not str")
    refused([sections[0], sections[1].to_df()], TypeError, "'section_1' is not an AnnData but DataFrame")
