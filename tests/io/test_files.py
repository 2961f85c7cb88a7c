from __future__ import annotations

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData, read_h5ad

from isost import io


def section(seed):
    return AnnData(np.random.default_rng(seed).random((6, 3)).astype(np.float32))


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / "new" / f"a{suffix}"
    for seed in (0, 1):  # the second replaces the first
        adata = section(seed)
        io.write(adata, path)
        np.testing.assert_array_equal(io.read(path).X, adata.X)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_names_are_written_that_were_read_from_a_file_of_pandas_3(tmp_path, suffix):
    adata = section(0)
    for table in (adata.obs, adata.var):
        table.index = table.index.astype("string")
    io.write(adata, tmp_path / f"a{suffix}")
    for lazy in (False, True):
        found = io.read(tmp_path / f"a{suffix}", lazy=lazy)
        assert [*found.obs_names] == [*adata.obs_names]
        assert [*found.var_names] == [*adata.var_names]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_what_is_lazy_is_read_when_it_is_computed(tmp_path, suffix):
    adata = section(0)
    adata.obs["kind"] = list("ababab")
    adata.layers["counts"], adata.obsm["spatial"], adata.uns["a"] = adata.X > 0.5, np.ones((6, 2)), {"b": 1}
    io.write(adata, tmp_path / f"a{suffix}")
    found = io.read(tmp_path / f"a{suffix}", lazy=True)
    for lazy, expected in ((found.X, adata.X), (found.layers["counts"], adata.layers["counts"])):
        assert isinstance(lazy, da.Array)
        np.testing.assert_array_equal(lazy.compute(), expected)
    pd.testing.assert_frame_equal(found.obs, io.read(tmp_path / f"a{suffix}").obs)
    assert found.uns == {"a": {"b": 1}}
    np.testing.assert_array_equal(found.obsm["spatial"], adata.obsm["spatial"])


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_lazy_leaves_nothing_out(tmp_path, suffix):
    adata = section(0)
    adata.X = sp.csr_matrix(adata.X)
    adata.obsp["near"], adata.varp["like"] = sp.eye(6, format="csr"), np.eye(3)
    adata.layers["sparse"], adata.varm["PCs"] = adata.X.tocsc(), np.ones((3, 2))
    adata.raw = adata.copy()
    io.write(adata, tmp_path / f"a{suffix}")
    found = io.read(tmp_path / f"a{suffix}", lazy=True)
    lazily = (found.X, found.layers["sparse"], found.raw.X, found.obsp["near"])
    for lazy, expected in zip(lazily, (adata.X, adata.X, adata.raw.X, adata.obsp["near"]), strict=True):
        assert isinstance(lazy, da.Array)
        assert (lazy.compute() != expected).nnz == 0
    np.testing.assert_array_equal(found.varp["like"], adata.varp["like"])
    for fields in (found.varm, found.raw.varm):
        np.testing.assert_array_equal(fields["PCs"], adata.varm["PCs"])


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_failure_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    io.write(section(0), path)
    broken = section(1)
    broken.uns["cannot"] = object()
    with pytest.raises(Exception, match="object"):
        io.write(broken, str(path))
    np.testing.assert_array_equal(io.read(str(path)).X, section(0).X)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("as_kind", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("rows", [slice(None), slice(1, 5)])
def test_writing_changes_nothing_of_what_is_written(tmp_path, suffix, as_kind, rows):
    adata = section(0)
    adata.X, adata.obs["kind"] = as_kind(adata.X), list("ababab")
    adata.raw = adata.copy()
    adata.write_h5ad(tmp_path / "source.h5ad")
    backed = read_h5ad(tmp_path / "source.h5ad", backed="r")
    lazy = io.read(tmp_path / "source.h5ad", lazy=True)
    for given in (section(0), backed, lazy):
        if not given.isbacked:  # anndata refuses new columns of strings there
            given.obs["kind"] = list("ababab")
        part = given if rows == slice(None) else given[rows]
        before = part.is_view, part.filename, part.obs.dtypes.to_dict()
        io.write(part, tmp_path / f"a{suffix}")
        assert (part.is_view, part.filename, part.obs.dtypes.to_dict()) == before
        found = io.read(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(found.to_df(), section(0).to_df()[rows])
        np.testing.assert_array_equal(part.to_memory().to_df(), found.to_df())
        assert (found.raw is None) == (given.raw is None)
        assert found.obs["kind"].dtype == "category"
    backed.file.close()


def test_a_backed_one_is_written_over_its_own_file(tmp_path):
    section(0).write_h5ad(tmp_path / "a.h5ad")
    backed = read_h5ad(tmp_path / "a.h5ad", backed="r")
    backed.obs["kind"] = list("ababab")
    io.write(backed, tmp_path / "a.h5ad")
    assert list(io.read(tmp_path / "a.h5ad").obs["kind"]) == list("ababab")
    np.testing.assert_array_equal(backed.X[:], section(0).X)
    backed.file.close()


@pytest.mark.parametrize("as_kind", ["csr", "csc", "lazy", "backed", "dense"])
def test_only_what_will_be_stored_must_have_space(tmp_path, monkeypatch, as_kind):
    adata = AnnData(sp.random(1000, 1000, density=1e-3, format="csc" if as_kind == "csc" else "csr", random_state=0))
    if as_kind == "dense":
        adata.X = adata.X.toarray()
    adata.write_h5ad(tmp_path / "source.h5ad")
    if as_kind == "lazy":
        adata = io.read(tmp_path / "source.h5ad", lazy=True)
    if as_kind == "backed":
        adata = read_h5ad(tmp_path / "source.h5ad", backed="r")
    stored = {"dense": 8_000_000, "lazy": 0}.get(as_kind, 1000 * (8 + 4) + 1001 * 4)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=stored))
    io.write(adata, tmp_path / "a.h5ad")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=stored - 1))
    if as_kind != "lazy":
        with pytest.raises(OSError, match="no space is left"):
            io.write(adata, tmp_path / "a.h5ad")


def test_unfit_paths(tmp_path):
    with pytest.raises(ValueError, match=r"must end in .h5ad or .zarr"):
        io.write(section(0), tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"must end in .h5ad or .zarr"):
        io.read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*a\.h5ad"):
        io.read(tmp_path / "a.h5ad")
