from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
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
    kept = {"grid": {"voxel_size": 2.0}, "gene_mean": random.random(3), "gene_scale": random.random(3)}
    return AnnData(
        obs=pd.DataFrame(index=[]),
        var=pd.DataFrame(index=list("xyz")),
        varm={"PCs": random.random((3, 2))},
        uns={"isost": kept},
    )


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
    kept = frame.uns["isost"]
    decoded = expected @ frame.varm["PCs"].T * kept["gene_scale"] + kept["gene_mean"]
    np.testing.assert_allclose(volume.X.compute(), decoded, rtol=1e-6)
    np.testing.assert_allclose(volume[7:20, "y"].X.compute()[:, 0], decoded[7:20, 1], rtol=1e-6)


def test_what_a_kill_leaves_unfinished_is_no_part_of_another_volume(tmp_path, frame):
    (tmp_path / "v.zarr.part").mkdir()
    (tmp_path / "v.zarr.part" / f".{32 * 'a'}-fingerprint").write_text("mi")
    folder = io.SlabFolder(tmp_path / "v.zarr", "mine")
    folder.write(0, slab(0, 8))
    folder.join(1, frame)
    assert [path.name for path in tmp_path.iterdir()] == ["v.zarr"]


def test_a_volume_written_whole_is_opened_too(tmp_path, frame):
    part = slab(0, 8)
    fields = {"var": frame.var, "uns": frame.uns, "obsm": dict(part.obsm), "varm": dict(frame.varm)}
    volume = AnnData(np.ones((8, 3), np.float32), obs=part.obs, **fields)
    io.write(volume, tmp_path / "v.zarr")
    assert io.read_volume(tmp_path / "v.zarr").shape == (8, 3)


def test_what_is_no_volume(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*v\.zarr"):
        io.read_volume(tmp_path / "v.zarr")
    for suffix in (".zarr", ".h5ad"):
        io.write(slab(0, 8), tmp_path / f"v{suffix}")
        with pytest.raises(ValueError, match="is no volume in zarr"):
            io.read_volume(tmp_path / f"v{suffix}")
