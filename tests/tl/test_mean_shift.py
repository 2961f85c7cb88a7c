from __future__ import annotations

import dataclasses
from copy import copy
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import isost
from isost.tl._fit_choices import choose_mean_shift
from isost.tl._inputs import Sections
from isost.training import left_out_displacements

if TYPE_CHECKING:
    from anndata import AnnData

    from isost import IsoST


def _growing(*, moves: bool, n: int = 900) -> list[ad.AnnData]:
    """Discs that grow with depth; stripes of expression grow with them, or stay where they are."""
    rng = np.random.default_rng(0)
    sections = []
    for k, radius in enumerate((60.0, 80.0, 100.0, 120.0)):
        place = rng.uniform(-1, 1, (4 * n, 2))
        place = place[(place**2).sum(1) < 1][:n]
        distance = np.linalg.norm(place * (100.0 if moves else radius), axis=1, keepdims=True)
        pattern = np.cos(distance / 8 + np.arange(6))
        part = ad.AnnData((pattern + 0.3 * rng.normal(size=pattern.shape)).astype(np.float32))
        part.var_names = pd.Index([f"g{i}" for i in range(6)])
        part.obsm["spatial"], part.obs["z"] = place * radius, 20.0 * k
        sections.append(part)
    return sections


@pytest.mark.parametrize("moves", [True, False])
def test_expression_moves_with_the_tissue_where_it_does(moves: bool) -> None:
    sections = Sections(isost.pp.slice_stack(_growing(moves=moves)))
    displacements = left_out_displacements(sections.positions)
    chosen = choose_mean_shift(sections, displacements, np.random.default_rng(0), n_cells=20, adaptive=False)
    assert chosen == float(moves)


def test_two_sections_give_no_evidence() -> None:
    sections = Sections(isost.pp.slice_stack(_growing(moves=True)[:2]))
    assert choose_mean_shift(sections, {}, np.random.default_rng(0), n_cells=20, adaptive=False) == 0


def test_the_volume_and_a_section_agree_on_moved_expression(stack: AnnData, model: IsoST) -> None:
    moving = copy(model)
    moving.settings = dataclasses.replace(model.settings, mean_shift=1.0)
    volume = isost.tl.reconstruct(stack, model=moving, voxel_size=6.0)
    depth = np.unique(volume.obsm["spatial"][:, 2])[4]
    layer = volume[volume.obsm["spatial"][:, 2] == depth]
    section = isost.tl.section(stack, model=moving, z=float(depth))
    still = isost.tl.section(stack, model=model, z=float(depth))
    distance = np.linalg.norm(section.obsm["spatial"][:, None, :2] - layer.obsm["spatial"][None, :, :2], axis=2)
    near = distance.min(1) < 1.5
    found, wanted = section.layers["mean"][near], np.asarray(layer.X)[distance.argmin(1)[near]]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(section.obsm["spatial"], still.obsm["spatial"])
    assert not np.allclose(section.layers["mean"], still.layers["mean"], atol=1e-3)


def test_a_plane_along_a_section_expects_what_that_section_does(stack: AnnData, model: IsoST) -> None:
    moving = copy(model)
    moving.settings = dataclasses.replace(model.settings, mean_shift=1.0)
    depth = 0.5 * (stack.obsm["spatial"][:, 2].min() + stack.obsm["spatial"][:, 2].max()) + 3.0
    flat = isost.tl.section(stack, model=moving, z=float(depth))
    tilted = isost.tl.section(stack, model=moving, plane=([0, 0, depth], [0, 0, 1]))
    level = np.abs(tilted.obsm["spatial"][:, 2] - depth) < 4.0
    place = tilted.obsm["spatial"][level, :2]
    distance = np.linalg.norm(place[:, None] - flat.obsm["spatial"][None, :, :2], axis=2)
    near = distance.min(1) < 1.5
    assert near.sum() > 5
    found, wanted = tilted.layers["mean"][level][near], flat.layers["mean"][distance.argmin(1)[near]]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
