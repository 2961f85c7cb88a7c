from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from isost import io


def slab(i, n):
    random = np.random.default_rng(i)
    obs = {
        "density": random.random(n),
        "measured": random.random(n) < 0.5,
        "kind": pd.Categorical(["a"] * n, list("ab")),
    }
    obsm = {"voxel": random.integers(9, size=(n, 3)), "X_pca": random.random((n, 2), dtype=np.float32)}
    return AnnData(obs=pd.DataFrame(obs, index=[f"voxel_{i}_{row}" for row in range(n)]), obsm=obsm)


@pytest.fixture
def frame():
    """What a volume of three genes has beside its rows."""
    random = np.random.default_rng(9)
    return AnnData(
        obs=pd.DataFrame(index=[]),
        var=pd.DataFrame({"gene_mean": random.random(3), "gene_scale": random.random(3)}, index=list("xyz")),
        varm={"PCs": random.random((3, 2))},
        uns={"isost": {"grid": {"voxel_size": 2.0}}},
    )


def decoded(volume):
    genes = volume.var
    return volume.obsm["X_pca"] @ volume.varm["PCs"].T * genes["gene_scale"].to_numpy() + genes["gene_mean"].to_numpy()


def test_slabs_become_one_volume(tmp_path, frame, monkeypatch):
    monkeypatch.setattr(io._volume, "_CHUNK_BYTES", 16 * 8)  # slabs begin and end inside chunks
    folder, slabs = io.SlabFolder(tmp_path / "v.zarr", "mine"), [slab(i, n) for i, n in enumerate((11, 5, 30))]
    assert folder.missing(3) == [0, 1, 2]
    for i in (2, 0):
        folder.write(i, slabs[i])
    again = io.SlabFolder(tmp_path / "v.zarr", "mine")
    assert again.missing(3) == [1]
    again.write(1, slabs[1])
    again.join(3, frame)
    volume = io.read_volume(tmp_path / "v.zarr")
    pd.testing.assert_frame_equal(volume.obs, pd.concat([part.obs for part in slabs]))
    for key in ("voxel", "X_pca"):
        expected = np.concatenate([part.obsm[key] for part in slabs])
        assert volume.obsm[key].dtype == expected.dtype
        np.testing.assert_array_equal(volume.obsm[key].compute(), expected)
    assert list(volume.var_names) == list(frame.var_names)
    X = decoded(volume.to_memory())
    np.testing.assert_allclose(volume.X.compute(), X, rtol=1e-6)
    np.testing.assert_allclose(volume[7:20, "y"].X.compute()[:, 0], X[7:20, 1], rtol=1e-6)


def test_what_a_kill_leaves_unfinished_is_no_part_of_another_volume(tmp_path, frame):
    (tmp_path / "v.zarr.part").mkdir()
    (tmp_path / "v.zarr.part" / f".{32 * 'a'}-fingerprint").write_text("mi")
    folder = io.SlabFolder(tmp_path / "v.zarr", "mine")
    folder.write(0, slab(0, 8))
    folder.join(1, frame)
    assert [path.name for path in tmp_path.iterdir()] == ["v.zarr"]


def whole(frame, X=None):
    """A volume of eight voxels."""
    part = slab(0, 8)
    fields = {"var": frame.var, "uns": frame.uns, "obsm": dict(part.obsm), "varm": dict(frame.varm)}
    return AnnData(X, obs=part.obs, **fields)


def test_what_was_written_with_a_volume_is_opened_with_it(tmp_path, frame):
    volume = whole(frame, np.ones((8, 3), np.float32))
    volume.layers["twice"], volume.obsp["near"] = 2 * volume.X, sp.eye(8, format="csr")
    io.write(volume, tmp_path / "v.zarr")
    found = io.read_volume(tmp_path / "v.zarr")
    assert all(isinstance(array, da.Array) for array in (found.X, found.layers["twice"], found.obsp["near"]))
    np.testing.assert_array_equal(found.X.compute(), volume.X)
    np.testing.assert_array_equal(found.layers["twice"].compute(), volume.layers["twice"])
    assert (found.obsp["near"].compute() != volume.obsp["near"]).nnz == 0


@pytest.mark.parametrize("genes", [["z", "x"], ["y", "z", "x"]])
@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("is_written_with_X", [False, True])
def test_genes_are_decoded_as_they_are_after_they_were_reordered(tmp_path, frame, genes, is_old, is_written_with_X):
    expected = pd.DataFrame(decoded(whole(frame)), columns=frame.var_names)
    if is_old:
        frame.uns["isost"] |= {key: frame.var.pop(key).to_numpy() for key in ("gene_mean", "gene_scale")}
    io.write(whole(frame), tmp_path / "v.zarr")
    part = io.read_volume(tmp_path / "v.zarr")[:, genes]
    if not is_written_with_X:
        part = part.copy()
        del part.X
    io.write(part, tmp_path / "part.zarr")
    found = io.read_volume(tmp_path / "part.zarr")
    assert list(found.var_names) == genes
    np.testing.assert_allclose(found.X.compute(), expected[genes], rtol=1e-6)
    np.testing.assert_allclose(decoded(found.to_memory()), expected[genes], rtol=1e-6)


def test_what_is_no_volume(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*v\.zarr"):
        io.read_volume(tmp_path / "v.zarr")
    for suffix in (".zarr", ".h5ad"):
        io.write(slab(0, 8), tmp_path / f"v{suffix}")
        with pytest.raises(ValueError, match="is no volume in zarr"):
            io.read_volume(tmp_path / f"v{suffix}")
