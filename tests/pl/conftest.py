from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Iterator

mpl.use("Agg")

VOXEL_SIZE = 20.0
ORIGIN = np.array([100.0, -50.0, 10.0])


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def stack() -> ad.AnnData:
    """Three sections, at depths 0, 30 and 90, in an order that is not that of their names."""
    rng = np.random.default_rng(0)
    names = np.repeat(["b", "a", "c"], 40)
    n = len(names)
    expression = rng.gamma(1.0, 1.0, (n, 3)).astype(np.float32)
    adata = ad.AnnData(
        expression,
        obs=pd.DataFrame({"section": names}, index=[f"cell{i}" for i in range(n)]),
        var=pd.DataFrame(index=["Gad1", "Slc17a6", "Mbp"]),
    )
    adata.obs["section"] = pd.Categorical(adata.obs["section"], categories=["b", "a", "c"], ordered=True)
    adata.obs["cell_type"] = pd.Categorical(rng.choice(["neuron", "glia"], n), categories=["neuron", "glia"])
    adata.uns["cell_type_colors"] = ["#ff0000", "#0000ff"]
    depth = adata.obs["section"].map({"b": 0.0, "a": 30.0, "c": 90.0}).astype(float)
    adata.obsm["spatial"] = np.c_[rng.uniform(0, 400, n), rng.uniform(0, 200, n), depth]
    adata.layers["doubled"] = 2 * expression
    return adata


@pytest.fixture
def volume() -> ad.AnnData:
    """An ellipsoid of voxels with a gene in one corner, a gradient in z and a layer around a core."""
    n = np.array([12, 10, 6])
    index = np.stack(np.meshgrid(*map(np.arange, n), indexing="ij"), -1).reshape(-1, 3)
    position = (index + 0.5) / n * 2 - 1
    radius = np.linalg.norm(position, axis=1)
    kept = radius < 0.95
    index, position, radius = index[kept], position[kept], radius[kept]
    expression = np.c_[np.exp(-4 * ((position - [0.4, 0, 0]) ** 2).sum(1)), position[:, 2] + 1]
    adata = ad.AnnData(
        expression.astype(np.float32),
        obs=pd.DataFrame(index=[f"voxel{i}" for i in range(len(index))]),
        var=pd.DataFrame(index=["Core", "Depth"]),
    )
    adata.obsm["voxel"] = index
    adata.obsm["spatial"] = ORIGIN + (index + 0.5) * VOXEL_SIZE
    adata.obs["density"] = 2 - radius
    adata.obs["measured"] = np.isin(index[:, 2], [1, 4])
    adata.obs["section_distance"] = np.abs(index[:, 2] - 2.5) * VOXEL_SIZE
    adata.obs["layer"] = pd.Categorical(np.where(radius > 0.6, "shell", "core"), categories=["shell", "core"])
    adata.uns["isost"] = {"grid": {"origin": ORIGIN, "voxel_size": VOXEL_SIZE, "shape": n}}
    return adata
