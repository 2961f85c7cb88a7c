from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import isost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.data
def test_a_measured_embryo_becomes_a_volume(data_dir: Path) -> None:
    embryo = isost.io.read(data_dir / "drosophila_bdtnp_stage5.h5ad")
    names = list(dict.fromkeys(embryo.obs["section"]))[4:9]
    embryo = embryo[embryo.obs["section"].isin(names)].copy()
    quick = {"epochs": 10, "hidden_dim": 16, "n_cells": 30, "expression_shift": 1.0, "progress": False}
    stack = isost.pp.slice_stack(embryo, n_comps=8)
    model = isost.tl.fit(stack, **quick)
    volume = isost.tl.reconstruct(stack, model=model)
    z = stack.uns["isost"]["sections"]["z"]
    sizes = stack.obs["section"].value_counts(sort=False).to_numpy()
    depths = np.unique(volume.obsm["spatial"][:, 2])
    per_layer = volume.obs["density"].groupby(volume.obsm["voxel"][:, 2]).sum()
    np.testing.assert_allclose(per_layer, np.interp(depths, z, sizes), rtol=1e-6)
    assert np.isfinite(volume.X).all()
    between = isost.tl.section(stack, model=model, z=(z[1] + z[2]) / 2)
    assert sizes[1:3].min() - 1 <= between.n_obs <= sizes[1:3].max() + 1
    # a left-out section of the same embryo is nearer to what is generated in its place than to a copy of its neighbour
    others = embryo[embryo.obs["section"] != names[2]].copy()
    without = isost.pp.slice_stack(others, n_comps=8)
    generated = isost.tl.section(without, model=isost.tl.fit(without, **quick), z=z[2])
    truth, copied = (embryo[embryo.obs["section"] == name] for name in names[2:4])
    error = [np.abs(part.X.mean(0) - truth.X.mean(0)).mean() for part in (generated, copied)]
    assert error[0] < error[1]
