from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from isost import io


def section(seed, **obs):
    X = np.random.default_rng(seed).random((6, 3)).astype(np.float32)
    return AnnData(X, obs=pd.DataFrame(obs, index=[str(i) for i in range(6)]))


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / "new" / f"a{suffix}"
    for seed in (0, 1):  # the second replaces the first
        adata = section(seed)
        io.write(adata, path)
        np.testing.assert_array_equal(io.read(path).X, adata.X)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_what_is_lazy_is_read_when_it_is_computed(tmp_path, suffix):
    adata = section(0, kind=list("ababab"))
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
def test_failure_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    io.write(section(0), path)
    broken = section(1)
    broken.uns["cannot"] = object()
    with pytest.raises(Exception, match="object"):
        io.write(broken, str(path))
    np.testing.assert_array_equal(io.read(str(path)).X, section(0).X)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_unfit_paths(tmp_path):
    with pytest.raises(ValueError, match=r"must end in .h5ad or .zarr"):
        io.write(section(0), tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"must end in .h5ad or .zarr"):
        io.read(tmp_path / "a.loom")
    with pytest.raises(FileNotFoundError, match=r"there is no .*a\.h5ad"):
        io.read(tmp_path / "a.h5ad")


def test_folder_in_natural_order(tmp_path):
    for i, name in enumerate(["s10.h5ad", "s2.zarr", "s1.h5ad", "7.h5ad"]):
        io.write(section(i), tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a section")
    (tmp_path / ".s3-unfinished.h5ad").write_text("")
    found = io.read_sections(tmp_path)
    assert list(found) == ["7", "s1", "s2", "s10"]
    np.testing.assert_array_equal(found["s2"].X, section(1).X)


def test_list_in_the_order_given(tmp_path):
    paths = [tmp_path / "b.h5ad", str(tmp_path / "a.zarr")]
    for i, path in enumerate(paths):
        io.write(section(i), path)
    assert list(io.read_sections(paths)) == ["b", "a"]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_one_file_of_several_sections(tmp_path, suffix):
    io.write(section(0, slice=list("abbabc")), tmp_path / f"all{suffix}")
    found = io.read_sections(tmp_path / f"all{suffix}", section_key="slice")
    assert {name: part.n_obs for name, part in found.items()} == {"a": 2, "b": 3, "c": 1}
    with pytest.raises(KeyError, match="no column 'section'"):
        io.read_sections(tmp_path / f"all{suffix}")


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no files that end in"):
        io.read_sections(tmp_path)
    with pytest.raises(ValueError, match="two files are called 'a'"):
        io.read_sections([tmp_path / "a.h5ad", tmp_path / "b" / "a.h5ad"])
    with pytest.raises(FileNotFoundError, match=r"there is no .*b\.zarr"):
        io.read_sections([tmp_path / "b.zarr"])
