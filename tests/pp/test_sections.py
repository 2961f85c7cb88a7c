from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from isost.pp import as_sections
from isost.pp._sections import positions, section_depths, shared_genes


def test_dict_keeps_names_and_order(sections):
    given = {"b": sections[0], "a": sections[1], 3: sections[2]}
    assert list(as_sections(given)) == ["b", "a", "3"]
    assert as_sections(given)["b"] is sections[0]


def test_list_is_numbered(sections):
    assert list(as_sections(sections)) == ["section_0", "section_1", "section_2", "section_3"]
    assert next(iter(as_sections(tuple(sections)))) == "section_0"
    assert len(as_sections(section for section in sections)) == 4


def test_list_names_itself(make_section):
    listed = [make_section(0, section="up"), make_section(1, section="down")]
    assert list(as_sections(listed)) == ["up", "down"]


@pytest.mark.parametrize("second", ["up", None])
def test_list_that_does_not_name_itself_well_is_numbered(make_section, second):
    listed = [make_section(0, section="up"), make_section(1, section=second)]
    assert list(as_sections(listed)) == ["section_0", "section_1"]


def test_one_object_is_split(sections):
    joined = ad.concat(dict(zip("dacb", sections, strict=True)), label="slice")
    split = as_sections(joined[::-1], section_key="slice")
    assert {name: section.n_obs for name, section in split.items()} == {"d": 25, "a": 28, "c": 31, "b": 34}


def test_unfit_objects(sections):
    with pytest.raises(TypeError, match="must be a list or dict of AnnData, or one AnnData, not str"):
        as_sections("a.h5ad")
    for paths in ("a.h5ad", Path("a.h5ad"), ["a.h5ad"], {"a": Path("a.h5ad")}):
        with pytest.raises(TypeError, match=r"; read files by isost\.io\.read_sections, or one by isost\.io\.read"):
            as_sections(paths)
    with pytest.raises(TypeError, match="not int"):
        as_sections(3)
    with pytest.raises(TypeError, match="section 'section_1' is not an AnnData but DataFrame"):
        as_sections([sections[0], pd.DataFrame()])
    with pytest.raises(KeyError, match="no column 'section'"):
        as_sections(sections[0])


def test_too_few(sections, make_section):
    with pytest.raises(ValueError, match=r"at least two sections are needed .* got 0"):
        as_sections([])
    with pytest.raises(ValueError, match="got 1; to split one AnnData"):
        as_sections([sections[0]])
    with pytest.raises(ValueError, match="section 'section_1' has 5 points, but at least 6"):
        as_sections([sections[0], make_section(9, n=5)])


def test_gene_twice(sections):
    sections[2].var_names = ["gene0", *sections[2].var_names[:-1]]
    with pytest.raises(
        ValueError, match="section 'section_2' has 1 gene names more than once, such as 'gene0'; call var"
    ):
        as_sections(sections)


def test_names_that_are_the_same_as_text(sections):
    with pytest.raises(ValueError, match="two sections have the same name once it is text"):
        as_sections({1: sections[0], "1": sections[1]})


def test_shared_genes(sections):
    named = {"a": sections[0][:, ["gene5", "gene1", "gene3"]], "b": sections[1][:, ["gene3", "gene4", "gene5"]]}
    assert list(shared_genes(named)) == ["gene5", "gene3"]
    assert list(shared_genes(named, genes=["gene3", "gene5"])) == ["gene3", "gene5"]
    with pytest.raises(KeyError, match=r"section 'a' lacks 1 of genes=: \['gene4'\]"):
        shared_genes(named, genes=["gene3", "gene4"])
    with pytest.raises(KeyError, match=r"did you mean 'gene3'"):
        shared_genes(named, genes=["Gene3"])
    with pytest.raises(ValueError, match="genes= names 'gene3' twice"):
        shared_genes(named, genes=["gene3", "gene3"])
    with pytest.raises(ValueError, match="genes= is an empty list"):
        shared_genes(named, genes=[])
    named["c"] = sections[2][:, ["gene0"]]
    with pytest.raises(ValueError, match="share no genes; do all var_names hold the same kind of name"):
        shared_genes(named)
    named["c"] = sections[2].copy()
    named["c"].var_names = named["c"].var_names.str.upper()
    with pytest.raises(ValueError, match="share no genes; some names differ in upper and lower case alone"):
        shared_genes(named)


def test_positions(make_section):
    section = make_section(0)
    assert positions("a", section, spatial_key="spatial").dtype == np.float64
    with pytest.raises(KeyError, match=r"section 'a' has no obsm\['xy'\].*obsm has \['spatial'\]"):
        positions("a", section, spatial_key="xy")
    for width in (1, 4):
        section.obsm["odd"] = np.ones((section.n_obs, width))
        with pytest.raises(ValueError, match="must have 2 or 3 columns"):
            positions("a", section, spatial_key="odd")
    section.obsm["flat"] = np.ones((section.n_obs, 2))
    with pytest.raises(ValueError, match="all points of section 'a' lie at one place"):
        positions("a", section, spatial_key="flat")
    section.obsm["words"] = np.full((section.n_obs, 2), "x")
    with pytest.raises(ValueError, match="section 'a' must be numbers"):
        positions("a", section, spatial_key="words")
    for bad in (np.nan, np.inf):
        section.obsm["spatial"][3, 1] = bad
        with pytest.raises(ValueError, match="section 'a' is NaN or infinite at 1 points"):
            positions("a", section, spatial_key="spatial")


def test_depths_come_from_z_then_obs_then_third_column(make_section):
    named = {"a": make_section(0), "b": make_section(1)}
    with pytest.raises(KeyError, match="section 'a' has no depth"):
        section_depths(named)
    for name, section in named.items():
        section.obsm["spatial"] = np.column_stack([section.obsm["spatial"], np.full(section.n_obs, ord(name))])
    assert section_depths(named) == {"a": 97, "b": 98}
    for depth, section in enumerate(named.values()):
        section.obs["z"] = depth
    assert section_depths(named) == {"a": 0, "b": 1}
    assert section_depths(named, z=[7, -1]) == {"a": 7, "b": -1}
    assert section_depths(named, z=np.array([7, -1])) == {"a": 7, "b": -1}
    assert section_depths(named, z={"b": 3.5, "a": 4}) == {"a": 4, "b": 3.5}


def test_depths_may_be_categorical(make_section):
    named = {"a": make_section(0, z=1.5), "b": make_section(1, z=4)}
    for section in named.values():
        section.obs["z"] = section.obs["z"].astype("category")
    assert section_depths(named) == {"a": 1.5, "b": 4}


def test_equal_depths_are_kept_exactly(make_section):
    named = {"a": make_section(0, n=33, z=0.1), "b": make_section(1, n=47, z=0.7)}
    assert section_depths(named) == {"a": 0.1, "b": 0.7}


def test_thick_sections_lie_at_their_mean(make_section, caplog):
    caplog.set_level("INFO", logger="isost")
    named = {"a": make_section(0, n=10), "b": make_section(1, n=10)}
    for offset, section in zip([0, 10], named.values(), strict=True):
        section.obs["z"] = np.arange(10) + offset
    assert section_depths(named) == {"a": 4.5, "b": 14.5}
    assert "lie at the mean: a, b" in caplog.text
    named["b"].obs["z"] -= 2
    with pytest.raises(ValueError, match=r"sections 'a' \(0 to 9\) and 'b' \(8 to 17\) overlap"):
        section_depths(named)


def test_unfit_depths(make_section):
    named = {"a": make_section(0, z=3.0), "b": make_section(1, z=3.0)}
    with pytest.raises(ValueError, match="sections 'a' and 'b' lie at the same z = 3"):
        section_depths(named)
    with pytest.raises(ValueError, match="one depth for each of the 2 sections"):
        section_depths(named, z=[1, 2, 3])
    with pytest.raises(ValueError, match="one depth for each"):
        section_depths(named, z=4.0)
    with pytest.raises(KeyError, match=r"missing \['b'\], unknown \['c'\]"):
        section_depths(named, z={"a": 0, "c": 1})
    with pytest.raises(ValueError, match="z= of section 'b' must be finite numbers"):
        section_depths(named, z=[0, np.nan])
    named["b"].obs["z"] = "deep"
    with pytest.raises(ValueError, match=r"obs\['z'\] of section 'b' must be finite numbers"):
        section_depths(named)
