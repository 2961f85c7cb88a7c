"""What a change of the input that means nothing does to a volume, and what one that means something does.

Tolerances follow from the arithmetic: powers of two are exact in floating point, so that units and scales change
nothing at all; another order of cells changes the order of float32 sums; networks are not equivariant, so that turned
and mirrored sections train to slightly other drifts, which move cells (density) but not the expected expression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.interpolate import LinearNDInterpolator

import isost

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

VOXEL_SIZE = 24.0
FIT = {"epochs": 15, "hidden_dim": 16, "n_cells": 30, "adaptive": False, "expression_shift": 0.5, "progress": False}


@pytest.fixture(scope="module")
def sections() -> list[AnnData]:
    return isost.datasets.organ(n_sections=4, cells_per_section=250, n_genes=40, uneven=True)


@pytest.fixture(scope="module")
def volume(sections: list[AnnData]) -> AnnData:
    return volume_of(sections)


def volume_of(sections: list[AnnData], *, voxel_size: float = VOXEL_SIZE) -> AnnData:
    return isost.tl.reconstruct(sections, voxel_size=voxel_size, fit_kws=FIT, stack_kws={"n_comps": 6, "check": False})


def changed(sections: list[AnnData], change: Callable[[AnnData], Any]) -> list[AnnData]:
    copies = [section.copy() for section in sections]
    return [copy if (made := change(copy)) is None else made for copy in copies]


def paired(volume: AnnData, other: AnnData, voxel_of_other: Any) -> tuple[AnnData, AnnData]:
    """Rows of both that are one voxel; those that only one of them has are few, and nearly empty."""
    rows, others = (
        pd.Series(range(len(index)), index=pd.MultiIndex.from_arrays(index.T))
        for index in (volume.obsm["voxel"], voxel_of_other)
    )
    joined = pd.concat([rows, others], axis=1, join="inner")
    assert len(joined) > 0.95 * max(len(rows), len(others))
    return volume[joined[0].to_numpy()], other[joined[1].to_numpy()]


def test_order_of_cells(sections: list[AnnData], volume: AnnData) -> None:
    random = np.random.default_rng(0)
    shuffled = volume_of(changed(sections, lambda section: section[random.permutation(section.n_obs)].copy()))
    one, other = paired(volume, shuffled, shuffled.obsm["voxel"])
    np.testing.assert_allclose(other.X, one.X, atol=1e-4)
    np.testing.assert_allclose(other.obs["density"], one.obs["density"], atol=1e-3)


def test_order_of_genes(sections: list[AnnData], volume: AnnData) -> None:
    order = np.random.default_rng(0).permutation(40)
    other = volume_of(changed(sections, lambda section: section[:, order].copy()))
    one, other = paired(volume, other, other.obsm["voxel"])
    np.testing.assert_allclose(other.X, one.X[:, order], atol=1e-4)


def test_names_of_genes(sections: list[AnnData], volume: AnnData) -> None:
    names = [f"Gén {g}" for g in range(40)]
    renamed = volume_of(changed(sections, lambda section: setattr(section, "var_names", names)))
    assert list(renamed.var_names) == names
    np.testing.assert_array_equal(renamed.X, volume.X)
    pd.testing.assert_frame_equal(renamed.obs, volume.obs)


@pytest.mark.parametrize("unit", [2.0**-10, 2.0**10])
def test_unit_of_length(sections: list[AnnData], volume: AnnData, unit: float) -> None:
    def convert(section: AnnData) -> None:
        section.obsm["spatial"] = section.obsm["spatial"] * unit
        section.obs["z"] = section.obs["z"] * unit

    converted = volume_of(changed(sections, convert), voxel_size=VOXEL_SIZE * unit)
    np.testing.assert_array_equal(converted.X, volume.X)
    np.testing.assert_array_equal(converted.obsm["spatial"], volume.obsm["spatial"] * unit)
    np.testing.assert_array_equal(converted.obs["density"], volume.obs["density"])
    np.testing.assert_array_equal(converted.obs["section_distance"], volume.obs["section_distance"] * unit)


@pytest.mark.parametrize(("factor", "tolerance"), [(2.0, 0.0), (3.0, 1e-5)])
def test_scale_of_a_gene(sections: list[AnnData], volume: AnnData, factor: float, tolerance: float) -> None:
    by = np.ones(40)
    by[7] = factor
    scaled = volume_of(changed(sections, lambda section: setattr(section, "X", section.X @ sp.diags_array(by))))
    one, other = paired(volume, scaled, scaled.obsm["voxel"])
    np.testing.assert_allclose(other.X, one.X * by, rtol=0, atol=tolerance)


def test_turned_by_a_right_angle(sections: list[AnnData], volume: AnnData) -> None:
    def turn(section: AnnData) -> None:
        section.obsm["spatial"] = section.obsm["spatial"] @ np.array([[0.0, 1.0], [-1.0, 0.0]])

    turned = volume_of(changed(sections, turn))
    x, y, z = turned.obsm["voxel"].T  # x, y of the turned one are -y, x of the other
    one, other = paired(volume, turned, np.column_stack([y, volume.uns["isost"]["grid"]["shape"][1] - 1 - x, z]))
    np.testing.assert_allclose(other.X, one.X, atol=1e-4)
    assert np.corrcoef(one.obs["density"], other.obs["density"])[0, 1] > 0.98


@pytest.mark.parametrize("angle", [20, -77])
def test_turned_by_any_angle(sections: list[AnnData], angle: float) -> None:
    back = rotation(angle).T

    def turn(section: AnnData) -> None:
        section.obsm["spatial"] = section.obsm["spatial"] @ back.T

    one, other = volume_of(sections, voxel_size=6.0), volume_of(changed(sections, turn), voxel_size=6.0)
    for layer in range(one.uns["isost"]["grid"]["shape"][2]):
        own, turned = (volume[volume.obsm["voxel"][:, 2] == layer] for volume in (one, other))
        expected = LinearNDInterpolator(own.obsm["spatial"][:, :2], own.X)(turned.obsm["spatial"][:, :2] @ back)
        within = np.isfinite(expected).all(axis=1)
        assert within.mean() > 0.95
        off = turned.X[within] - expected[within]  # the interpolation's own error
        assert (off.std(axis=0) < 0.1 * own.X.std(axis=0)).all()


def rotation(degrees: float) -> NDArray[np.float64]:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def test_mirrored_in_z(sections: list[AnnData]) -> None:
    def mirror(section: AnnData) -> None:
        section.obs["z"] = -section.obs["z"]

    voxel_size = 180.0 / 8  # a whole number of layers, so that those of both lie at the same depths
    one, other = volume_of(sections, voxel_size=voxel_size), volume_of(changed(sections, mirror), voxel_size=voxel_size)
    x, y, z = other.obsm["voxel"].T
    one, other = paired(one, other, np.column_stack([x, y, one.obsm["voxel"][:, 2].max() - z]))
    np.testing.assert_allclose(other.X, one.X, atol=1e-4)
    assert np.corrcoef(one.obs["density"], other.obs["density"])[0, 1] > 0.98
