from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import isost

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


@dataclass(frozen=True)
class Organ:
    """Sections of the bundled organ, its truth as a volume, and what a fit and an evaluation of them may look like."""

    sections: list[ad.AnnData]
    volume: ad.AnnData
    model: SimpleNamespace
    scores: pd.DataFrame

    @property
    def flat_volume(self) -> ad.AnnData:
        """The first three layers of the volume."""
        return self.volume[self.volume.obsm["voxel"][:, 2] < 3].copy()


@pytest.fixture(scope="session")
def organ() -> Organ:
    sections = isost.datasets.organ(n_sections=3, cells_per_section=300, n_genes=30, gap=100.0)
    truth = isost.datasets.Organ(**sections[0].uns["organ"])
    model = SimpleNamespace(history=history(), settings=SimpleNamespace(objective="trajectory"))
    return Organ(sections, volume_of(truth, size=25.0), model, scores())


def volume_of(truth: isost.datasets.Organ, *, size: float) -> ad.AnnData:
    """What a perfect reconstruction of the organ would be."""
    n = np.ceil([2.4 * truth.radius / size, 2.4 * truth.radius / size, truth.depth / size + 1]).astype(int)
    origin = np.array([-1.2 * truth.radius, -1.2 * truth.radius, -size / 2])
    index = np.stack(np.meshgrid(*map(np.arange, n), indexing="ij"), -1).reshape(-1, 3)
    index = index[truth.inside(origin + (index + 0.5) * size)]
    places = origin + (index + 0.5) * size
    types = truth.cell_type_probabilities(places).argmax(axis=1)
    adata = ad.AnnData(
        truth.expected_expression(places).astype(np.float32),
        obs=pd.DataFrame({"density": truth.density(places)}, index=[f"voxel{i}" for i in range(len(index))]),
        var=pd.DataFrame(index=truth.gene_names),
    )
    adata.obs["cell_type"] = pd.Categorical.from_codes(types, list(truth.cell_types))
    adata.obs["section_distance"] = np.abs(places[:, 2] - 100 * np.rint(places[:, 2] / 100))
    adata.obs["measured"] = adata.obs["section_distance"] <= size / 2
    adata.obs["uncertainty"] = 0.1 + 0.002 * adata.obs["section_distance"] + 0.05 * np.hypot(*places[:, :2].T) / 250
    adata.obsm["voxel"], adata.obsm["spatial"] = index, places
    adata.uns["isost"] = {"grid": {"origin": origin, "voxel_size": size, "shape": n}}
    return adata


def history() -> pd.DataFrame:
    """Three phases of training, of which the last has both parts of the loss."""
    epoch = np.arange(1, 31)
    phase = np.repeat(["shape", "expression", "joint"], 10)
    shape = np.where(phase == "expression", 0.0, 2.0 * np.exp(-epoch / 10))
    expression = np.where(phase == "shape", 0.0, np.exp(-epoch / 20))
    losses = {"loss": shape + expression, "shape": shape, "expression": expression}
    return pd.DataFrame({"epoch": epoch, "phase": phase} | losses)


def scores() -> pd.DataFrame:
    """A table of the form that evaluate returns: two sections, two baselines."""
    metrics = ["r_cell", "r_voxel", "energy", "var_ratio"]
    index = pd.MultiIndex.from_product([["mean", "b", "c"], ["all"], metrics], names=["section", "gene", "metric"])
    spread = np.repeat([0.0, -0.05, 0.05], len(metrics))
    means = {"isost": [0.5, 0.7, 0.1, 0.9], "copy": [0.4, 0.5, 0.2, 1.0], "self": [0.6, 0.9, 0.0, 1.0]}
    table = pd.DataFrame({name: np.tile(values, 3) + spread for name, values in means.items()}, index=index)
    return table.assign(verdict="better than copy by 0.1")
