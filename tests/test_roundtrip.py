"""What isost makes survives files, and works with the tools that people use beside it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import isost

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST

mpl.use("Agg")

VOXEL_SIZE = 30.0
Results = dict[str, "AnnData"]


@pytest.fixture(scope="module")
def model(results: Results) -> IsoST:
    return isost.tl.fit(results["stack"], epochs=5, hidden_dim=8, n_cells=30, expression_shift=0.5, progress=False)


@pytest.fixture(scope="module")
def results() -> Results:
    """A stack, and further down what was made of it."""
    sections = isost.datasets.organ(n_sections=3, cells_per_section=150, n_genes=24)
    return {"stack": isost.pp.slice_stack(sections, n_comps=4)}


@pytest.fixture(scope="module", autouse=True)
def made(results: Results, model: IsoST) -> None:
    results["volume"] = isost.tl.reconstruct(results["stack"], model=model, voxel_size=VOXEL_SIZE)
    results["section"] = isost.tl.section(results["stack"], model=model, z=[0.0, 75.0])
    results["plane"] = isost.tl.section(
        results["stack"], model=model, plane=([0.0, 0.0, 60.0], [0.0, 1.0, 1.0]), thickness=30.0
    )


def same(a: Any, b: Any, where: str) -> None:
    """Equal values, whatever files make of lists and strings."""
    if isinstance(a, dict):
        assert set(a) == set(b), where
        for key in a:
            same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, check_exact=True, check_column_type=False)
    elif sp.issparse(a):
        assert type(a) is type(b), where
        assert a.dtype == b.dtype, where
        same(a.toarray(), b.toarray(), where)
    elif isinstance(a, str):
        assert a == str(b), where
    else:
        left, right = np.asarray(a), np.asarray(b)
        if left.dtype.kind in "biuf":
            assert left.dtype == right.dtype, where
        np.testing.assert_array_equal(left, right, err_msg=where)


def same_anndata(a: AnnData, b: AnnData) -> None:
    same(a.X, b.X, "X")
    same(a.obs, b.obs, "obs")
    same(a.var, b.var, "var")
    for name in ("obsm", "varm", "layers", "uns"):
        same(dict(getattr(a, name)), dict(getattr(b, name)), name)


def write_and_read(adata: AnnData, path: Path, *, by: str) -> AnnData:
    if by == "isost":
        isost.io.write(adata, path)
        return isost.io.read(path)
    if path.suffix == ".h5ad":
        adata.write_h5ad(path)
        return anndata.read_h5ad(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Writing zarr v2 data will no longer be the default")
        adata.write_zarr(path)
    return anndata.read_zarr(path)


@pytest.mark.parametrize("by", ["isost", "anndata"])
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("what", ["stack", "volume", "section", "plane"])
def test_everything_survives_files(results: Results, tmp_path: Path, what: str, suffix: str, by: str) -> None:
    before = results[what].copy()
    read = write_and_read(results[what], tmp_path / f"it.{suffix}", by=by)
    same_anndata(before, read)
    same_anndata(before, results[what])


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_stack_that_was_read_gives_the_same_volume_and_section(
    results: Results, model: IsoST, tmp_path: Path, suffix: str
) -> None:
    read = write_and_read(results["stack"], tmp_path / f"stack.{suffix}", by="isost")
    model.save(tmp_path / "model")
    loaded = isost.IsoST.load(tmp_path / "model")
    same_anndata(results["volume"], isost.tl.reconstruct(read, model=loaded, voxel_size=VOXEL_SIZE))
    same_anndata(results["section"], isost.tl.section(read, model=loaded, z=[0.0, 75.0]))
    again = isost.tl.fit(read, epochs=5, hidden_dim=8, n_cells=30, expression_shift=0.5, progress=False)
    pd.testing.assert_frame_equal(again.history, model.history, check_exact=True)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_lazy_volume_is_written_as_what_it_decodes_to(
    results: Results, model: IsoST, tmp_path: Path, suffix: str
) -> None:
    lazy = isost.tl.reconstruct(results["stack"], model=model, voxel_size=VOXEL_SIZE, lazy=True)
    del lazy.uns["isost"]["provenance"]["params"]["lazy"]
    same_anndata(results["volume"], write_and_read(lazy, tmp_path / f"volume.{suffix}", by="isost"))


def test_the_grid_of_a_volume_that_was_read_still_holds(results: Results, tmp_path: Path) -> None:
    read = write_and_read(results["volume"], tmp_path / "volume.h5ad", by="isost")
    grid = read.uns["isost"]["grid"]
    centers = grid["origin"] + (read.obsm["voxel"] + 0.5) * grid["voxel_size"]
    np.testing.assert_allclose(read.obsm["spatial"], centers)


def test_a_volume_and_generated_sections_make_a_spatialdata(results: Results, tmp_path: Path) -> None:
    import spatialdata

    volume, section = results["volume"], results["section"]
    genes = list(volume.var_names[:3])
    isost.io.to_spatialdata(volume, section, section_key="cut", channels=genes).write(tmp_path / "it.zarr")
    read = spatialdata.read_zarr(tmp_path / "it.zarr")
    x, y, z = volume.obsm["voxel"].T
    np.testing.assert_array_equal(read["volume"].sel(c=genes).to_numpy()[:, z, y, x].T, volume[:, genes].X)
    assert read["volume"].shape[:0:-1] == tuple(volume.uns["isost"]["grid"]["shape"])
    for cut, cells in section.obs.groupby("cut"):
        np.testing.assert_array_equal(read[str(cut)].layers["mean"], section[cells.index].layers["mean"])


@pytest.mark.filterwarnings("ignore:'.*' is not a valid key!:SyntaxWarning")
def test_squidpy_measures_the_volume(results: Results) -> None:
    import squidpy as sq

    volume = results["volume"].copy()
    volume.var_names_make_unique()
    sq.gr.spatial_neighbors_knn(volume, spatial_key="spatial", n_neighs=6)
    connected = volume.obsp["spatial_connectivities"]
    assert connected.shape == (volume.n_obs, volume.n_obs)
    distances = volume.obsp["spatial_distances"].data
    assert distances.min() == pytest.approx(VOXEL_SIZE)
    sq.gr.spatial_autocorr(volume, mode="moran", genes=list(volume.var_names[:6]), show_progress_bar=False)
    scores = volume.uns["moranI"]["I"]
    assert (scores > 0.3).all()  # expected expression is smooth


@pytest.mark.filterwarnings("ignore:The set_bad function will be deprecated:PendingDeprecationWarning")
def test_scanpy_works_on_volume_and_section(results: Results) -> None:
    import matplotlib.pyplot as plt
    import scanpy as sc

    volume = results["volume"].copy()
    sc.pp.neighbors(volume, use_rep="X_pca", n_neighbors=10)
    assert volume.obsp["connectivities"].shape == (volume.n_obs, volume.n_obs)
    section = results["section"][results["section"].obs["cut"] == 1].copy()
    for adata, color in ((volume, "density"), (section, "cell_type")):
        for projection in ("2d", "3d"):
            axes = sc.pl.embedding(adata, basis="spatial", projection=projection, color=color, show=False)
            assert (axes.get_title(), axes.name == "3d") == (color, projection == "3d")
            plt.close("all")


# what is expected of a silent gene may lie a little below zero, of which scanpy takes a logarithm
@pytest.mark.filterwarnings("ignore:invalid value encountered in log2:RuntimeWarning")
@pytest.mark.parametrize("what", ["volume", "section"])
def test_scanpy_ranks_genes_that_mark_a_type(results: Results, what: str) -> None:
    import scanpy as sc

    adata = results[what].copy()
    common = adata.obs["cell_type"].value_counts().index[:2]
    adata = adata[adata.obs["cell_type"].isin(common)].copy()
    sc.tl.rank_genes_groups(adata, "cell_type", method="wilcoxon")
    for group in common:
        best = sc.get.rank_genes_groups_df(adata, group).iloc[0]
        inside = adata.obs["cell_type"] == group
        gene = adata[:, best["names"]].to_df()
        assert gene[inside].to_numpy().mean() > gene[~inside].to_numpy().mean()
