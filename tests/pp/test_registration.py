from __future__ import annotations

import logging

import numpy as np
import pytest

import isost


@pytest.fixture(scope="module")
def organ():
    """Synthetic sections, in z order, named section0, …"""
    return isost.datasets.organ(n_sections=3, cells_per_section=600, n_genes=60)


def moved(organ, k, transform):
    """The same sections, one of them in another place."""
    sections = list(organ)
    sections[k] = organ[k].copy()
    sections[k].obsm["spatial"] = transform(organ[k].obsm["spatial"])
    return sections


def test_registered_sections_are_not_refused(organ):
    table = isost.pp.check_registration(organ[::-1])
    assert list(table.index) == [("section0", "section1"), ("section1", "section2")]
    assert table["gap"].tolist() == [60, 60]
    assert not table["mirrored"].any()
    assert not table["verdict"].str.contains("not registered|unlike").any()
    assert (table["verdict"] == "registered").any()


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (lambda points: points * [-1, 1], "mirrored in x"),
        (lambda points: points @ [[0.0, 1.0], [-1.0, 0.0]], "turned by -"),
        (lambda points: points + np.array([0, 300]), r"shifted by \(.*, -[23]"),
    ],
    ids=["mirrored", "turned", "shifted"],
)
def test_a_section_out_of_place_is_found(organ, transform, said, caplog):
    sections = moved(organ, 2, transform)
    with caplog.at_level(logging.WARNING, logger="isost"):
        table = isost.pp.check_registration(sections)
    verdict = table["verdict"].iloc[-1]
    assert verdict.startswith("not registered: ")
    assert verdict.endswith("register them first, by PASTE, moscot, STalign or spateo")
    np.testing.assert_array_equal(sections[2].obsm["spatial"], transform(organ[2].obsm["spatial"]))
    assert not table["verdict"].iloc[:-1].str.startswith("not registered").any()
    assert any("'section1' and 'section2' are not registered" in record.message for record in caplog.records)
    assert table["verdict"].str.contains(said).iloc[-1]


def test_one_stack_gives_the_same_as_its_sections(organ):
    stack = isost.pp.slice_stack(organ[:2])
    table = isost.pp.check_registration(stack)
    np.testing.assert_allclose(table["gain"], isost.pp.check_registration(organ[:2])["gain"], atol=0.02)


def test_sections_with_nothing_in_common_are_unlike(organ):
    shuffled = organ[1].copy()
    shuffled.X = shuffled.X[np.random.default_rng(0).permutation(shuffled.n_obs)]
    verdict = isost.pp.check_registration([organ[0], shuffled])["verdict"].iloc[0]
    assert verdict.startswith("unlike: ")


def test_bad_input_is_refused_as_elsewhere(organ):
    with pytest.raises(ValueError, match="at least two sections"):
        isost.pp.check_registration(organ[:1])
    with pytest.raises(KeyError, match="no obsm"):
        isost.pp.check_registration(organ, spatial_key="xy")


@pytest.mark.data
def test_measured_sections_are_registered(data_dir):
    adata = isost.io.read(data_dir / "merfish_hypothalamus_poa_5sections.h5ad")
    adata.X = adata.X.log1p()
    assert isost.pp.check_registration(adata)["verdict"].eq("registered").all()
