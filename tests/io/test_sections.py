from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from isost import io


def section(seed, **obs):
    X = np.random.default_rng(seed).random((6, 3)).astype(np.float32)
    return AnnData(X, obs=pd.DataFrame(obs, index=[str(i) for i in range(6)]))


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
def test_several_sections_in_one_anndata(tmp_path, suffix):
    together = section(0, slice=list("abbabc"))
    io.write(together, tmp_path / f"all{suffix}")
    for source in (tmp_path / f"all{suffix}", together):
        found = io.read_sections(source, section_key="slice")
        assert {name: part.n_obs for name, part in found.items()} == {"a": 2, "b": 3, "c": 1}
    with pytest.raises(KeyError, match="no column 'section'"):
        io.read_sections(tmp_path / f"all{suffix}")


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no files that end in"):
        io.read_sections(tmp_path)
    with pytest.raises(ValueError, match="two files are called 'a'"):
        io.read_sections([tmp_path / "a.h5ad", tmp_path / "b" / "a.h5ad"])
    with pytest.raises(FileNotFoundError, match=r"there is no .*nofolder"):
        io.read_sections(tmp_path / "nofolder")
    with pytest.raises(FileNotFoundError, match=r"there is no .*b\.zarr"):
        io.read_sections([tmp_path / "b.zarr"])
