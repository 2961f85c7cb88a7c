from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import isost
from isost.field import Lattice
from isost.generation import _carry
from isost.tl import _slabs
from isost.tl._slabs import Slabs

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST

VOXEL_SIZE = 24.0
GAPS = 3  # of the organ


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slab for every gap."""
    monkeypatch.setattr(_carry, "_MOST_POINTS", 1)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the slabs that are made, as they are."""
    numbers: list[int] = []
    original = Slabs.__getitem__

    def counted(self: Slabs, i: int) -> Any:
        slab = original(self, i)
        numbers.append(i)
        return slab

    monkeypatch.setattr(Slabs, "__getitem__", counted)
    return numbers


def interrupted(method: str, stack: AnnData, *, after: int = 0, **kws: Any) -> None:
    """Reconstruct, and be stopped when a method of the folder of slabs is called once more than so often."""
    original, calls = getattr(isost.io.SlabFolder, method), []

    def stopped(*args: Any) -> None:
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(1)
        original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isost.io.SlabFolder, method, stopped)
        with pytest.raises(KeyboardInterrupt):
            isost.tl.reconstruct(stack, **kws)


def in_memory(volume: AnnData) -> AnnData:
    """The same volume with nothing left to be read."""
    found = volume.copy()
    found.X = volume.X.compute()
    for key, array in volume.obsm.items():
        found.obsm[key] = array.compute()
    return found


def assert_same_volume(a: AnnData, b: AnnData) -> None:
    np.testing.assert_array_equal(a.X, b.X)
    pd.testing.assert_frame_equal(a.obs, b.obs, check_exact=True)
    pd.testing.assert_frame_equal(a.var, b.var)
    for key, array in b.obsm.items():
        assert a.obsm[key].dtype == array.dtype
        np.testing.assert_array_equal(a.obsm[key], array)
    np.testing.assert_array_equal(a.varm["PCs"], b.varm["PCs"])
    assert list(a.uns["cell_type_colors"]) == list(b.uns["cell_type_colors"])
    for kept in ("grid", "sections"):
        for key, value in b.uns["isost"][kept].items():
            np.testing.assert_array_equal(a.uns["isost"][kept][key], value)
    assert a.uns["isost"]["params"] == b.uns["isost"]["params"]


@pytest.mark.parametrize("voxel_size", [12.3, 24.0, 70.0])  # the last wider than some gaps, which have no layer then
def test_slabs_are_the_volume_whatever_their_size(
    stack: AnnData, noisy_model: IsoST, voxel_size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kws: dict[str, Any] = {"model": noisy_model, "voxel_size": voxel_size, "seed": 4}
    whole = isost.tl.reconstruct(stack, **kws)
    monkeypatch.setattr(_carry, "_MOST_POINTS", 1)
    monkeypatch.setattr(_slabs, "_BLOCK", 100)
    parts = isost.tl.reconstruct(stack, **kws)
    np.testing.assert_array_equal(parts.obsm["voxel"], whole.obsm["voxel"])
    np.testing.assert_allclose(parts.X, whole.X, atol=1e-5)
    np.testing.assert_allclose(parts.obs["density"], whole.obs["density"], atol=1e-4)
    np.testing.assert_allclose(parts.obs["uncertainty"], whole.obs["uncertainty"], atol=1e-6)
    assert parts.obs["cell_type"].equals(whole.obs["cell_type"])


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("genes", [None, [3, 1]])
def test_a_stored_volume_is_the_one_in_memory(
    stack: AnnData, noisy_model: IsoST, tmp_path: Path, genes: list[int] | None
) -> None:
    import dask.array as da

    kws: dict[str, Any] = {"model": noisy_model, "voxel_size": VOXEL_SIZE, "seed": 4}
    if genes is not None:
        kws["genes"] = list(stack.var_names[genes])
    expected = isost.tl.reconstruct(stack, **kws)
    before = stack.copy()
    stored = isost.tl.reconstruct(stack, **kws, store=tmp_path / "volume.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["volume.zarr"]
    assert all(isinstance(array, da.Array) for array in (stored.X, *stored.obsm.values()))
    assert_same_volume(in_memory(stored), expected)
    assert_same_volume(in_memory(isost.io.read_volume(tmp_path / "volume.zarr")), expected)
    np.testing.assert_array_equal(stack.obsm["X_isost"], before.obsm["X_isost"])


@pytest.mark.usefixtures("small_slabs")
def test_an_interrupted_run_goes_on_where_it_stopped(
    stack: AnnData, model: IsoST, tmp_path: Path, made: list[int]
) -> None:
    kws: dict[str, Any] = {"model": model, "voxel_size": VOXEL_SIZE, "store": tmp_path / "volume.zarr"}
    (tmp_path / "volume.zarr").mkdir()  # something older, which stays until the new one is whole
    interrupted("write", stack, after=1, **kws)
    assert not any((tmp_path / "volume.zarr").iterdir())
    made.clear()
    resumed = isost.tl.reconstruct(stack, **kws)
    assert made == list(range(1, GAPS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["volume.zarr"]
    kws.pop("store")
    assert_same_volume(in_memory(resumed), isost.tl.reconstruct(stack, **kws))


@pytest.mark.usefixtures("small_slabs")
def test_a_stop_while_slabs_are_joined_leaves_no_half_volume(
    stack: AnnData, model: IsoST, tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:  # not by a signal: shells have their background jobs ignore SIGINT
        raise KeyboardInterrupt

    kws: dict[str, Any] = {"model": model, "voxel_size": VOXEL_SIZE, "store": tmp_path / "volume.zarr"}
    with monkeypatch.context() as patch:
        patch.setattr(isost.io._volume, "_append", stopped)
        with pytest.raises(KeyboardInterrupt):
            isost.tl.reconstruct(stack, **kws)
    assert [path.name for path in tmp_path.iterdir()] == ["volume.zarr.part"]
    made.clear()
    assert isost.tl.reconstruct(stack, **kws).n_obs
    assert not made


@pytest.mark.usefixtures("small_slabs")
def test_slabs_of_another_volume_are_refused_and_damaged_ones_made_again(
    stack: AnnData, model: IsoST, noisy_model: IsoST, tmp_path: Path, made: list[int]
) -> None:
    store = tmp_path / "volume.zarr"
    kws: dict[str, Any] = {"model": model, "voxel_size": VOXEL_SIZE, "store": store}
    interrupted("join", stack, **kws)
    for other in ({"model": noisy_model}, {"voxel_size": 25.0}, {"seed": 1}):
        with pytest.raises(ValueError, match=r"volume\.zarr\.part holds parts of another volume"):
            isost.tl.reconstruct(stack, **(kws | other))
    damaged = tmp_path / "volume.zarr.part" / "slab-1.h5ad"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    made.clear()
    isost.tl.reconstruct(stack, **kws)
    assert made == [1]
    (tmp_path / "other.zarr.part").mkdir()
    (tmp_path / "other.zarr.part" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"other\.zarr\.part holds parts of another volume .*, or something else"):
        isost.tl.reconstruct(stack, **(kws | {"store": tmp_path / "other.zarr"}))


@pytest.mark.usefixtures("small_slabs")
def test_a_slab_is_made_from_its_own_sections_alone(
    stack: AnnData, model: IsoST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isost.tl._inputs import Components, Sections
    from isost.tl._reconstruct import _grid

    read: list[int] = []
    original = Components.__getitem__
    monkeypatch.setattr(Components, "__getitem__", lambda self, k: (read.append(k), original(self, k))[1])
    sections = Sections(stack)
    slabs = Slabs(model, stack, sections, _grid(sections, VOXEL_SIZE), seed=0)
    last = slabs[GAPS - 1]
    assert set(read) == {GAPS - 1, GAPS}
    fresh = Slabs(model, stack, sections, _grid(sections, VOXEL_SIZE), seed=0)
    for i in range(GAPS):
        part = fresh[i]
    pd.testing.assert_frame_equal(part.obs, last.obs, check_exact=True)
    np.testing.assert_array_equal(part.obsm["X_pca"], last.obsm["X_pca"])


def test_unfit_stores(stack: AnnData, model: IsoST, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.zarr"):
        isost.tl.reconstruct(stack, model=model, store=tmp_path / "volume.h5ad")
    with pytest.raises(ValueError, match="without lazy=False"):
        isost.tl.reconstruct(stack, model=model, store=tmp_path / "volume.zarr", lazy=False)


def test_a_stored_volume_is_drawn(stack: AnnData, model: IsoST, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    stored = isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE, store=tmp_path / "volume.zarr")
    isost.pl.volume(stored, color=stack.var_names[0], show=False)
    plt.close("all")


def test_voxels_above_one_another_share_their_estimates(
    model: IsoST, stack: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_slabs, "_BLOCK", 50)
    fine = isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE / 2)
    slow = voxel_by_voxel(monkeypatch, stack, model)
    np.testing.assert_allclose(fine.obsm["X_pca"], slow.obsm["X_pca"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fine.obs["uncertainty"], slow.obs["uncertainty"], rtol=1e-9)


def voxel_by_voxel(monkeypatch: pytest.MonkeyPatch, stack: AnnData, model: IsoST) -> AnnData:
    with monkeypatch.context() as patch:
        patch.setattr(Lattice, "interpolate", lambda lattice, estimate, query: estimate(query))
        return isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE / 2)


def test_where_tissue_moves_sections_are_estimated_on_a_lattice(
    model: IsoST, stack: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = copy.copy(model)  # which other tests use, too
    moving.settings = dataclasses.replace(model.settings, mean_shift=1.0)
    fine = isost.tl.reconstruct(stack, model=moving, voxel_size=VOXEL_SIZE / 2)
    slow = voxel_by_voxel(monkeypatch, stack, moving)
    away = (fine.obsm["X_pca"] - slow.obsm["X_pca"]) / np.sqrt(moving.component_variance)
    assert 0 < np.sqrt((away**2).mean()) < 0.1 * slow.obs["uncertainty"].mean()
    np.testing.assert_allclose(fine.obs["uncertainty"], slow.obs["uncertainty"], rtol=0.2)
    # with one layer a gap there are more nodes than voxels
    coarse = isost.tl.reconstruct(stack, model=moving, voxel_size=2 * VOXEL_SIZE)
    monkeypatch.setattr(Lattice, "interpolate", None)
    np.testing.assert_array_equal(
        isost.tl.reconstruct(stack, model=moving, voxel_size=2 * VOXEL_SIZE).obsm["X_pca"], coarse.obsm["X_pca"]
    )
