"""A full disk, too little memory, and a loss that is no number: what is said, and what is kept."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import isost
from isost._faults import explained
from isost.tl import _fit_objectives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST

QUICK: dict[str, Any] = {"epochs": 3, "hidden_dim": 8, "n_cells": 20, "progress": False}


@pytest.fixture(scope="module")
def stack() -> AnnData:
    sections = isost.datasets.organ(n_sections=3, cells_per_section=90, n_genes=20)
    return isost.pp.slice_stack(dict(zip("abc", sections, strict=True)), n_comps=3)


@pytest.fixture(scope="module")
def model(stack: AnnData) -> IsoST:
    return isost.tl.fit(stack, **QUICK)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as on a full disk or with a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def poisoned_bridge(*args: Any, **kws: Any) -> Any:
    task = bridge(*args, **kws)
    task.backward.change[:, task.backward.sizes[0] :] = np.nan
    return task


def poisoned_trajectory(*args: Any, **kws: Any) -> Any:
    task = trajectory(*args, **kws)
    task.sections[2] = task.sections[2].clone()
    task.sections[2][:, 3:] = np.nan
    return task


bridge, trajectory = _fit_objectives._bridge, _fit_objectives._trajectory


@pytest.mark.parametrize(("objective", "poisoned"), [("bridge", poisoned_bridge), ("trajectory", poisoned_trajectory)])
@pytest.mark.parametrize("batch_size", [60, 1024])
def test_the_gap_without_a_finite_loss_is_named_and_the_last_good_weights_are_kept(
    stack: AnnData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
    poisoned: Callable[..., Any],
    batch_size: int,
) -> None:
    isost.tl.fit(stack, **QUICK | {"epochs": 1}, objective=objective, checkpoint_dir=tmp_path, batch_size=batch_size)
    monkeypatch.setattr(_fit_objectives, poisoned.__name__.removeprefix("poisoned"), poisoned)
    with pytest.raises(
        FloatingPointError,
        match=r"in epoch 2 of the joint phase, between sections 'b' and 'c'; a lower .* mends it; "
        r".*checkpoint\.safetensors holds the training up to its last checkpoint, from which the same call goes on",
    ):
        isost.tl.fit(stack, **QUICK, objective=objective, checkpoint_dir=tmp_path, batch_size=batch_size)
    last, before = (load_file(tmp_path / f"{name}.safetensors") for name in ("last_good", "checkpoint"))
    assert last.keys() == before.keys()
    assert all(bool(tensor.isfinite().all()) for tensor in last.values())


def test_a_loss_that_is_finite_nowhere_is_that_of_every_gap(stack: AnnData) -> None:
    with pytest.raises(FloatingPointError, match=r"in every gap; a lower .*; nothing is kept without checkpoint_dir="):
        isost.tl.fit(stack, **QUICK, lr=1e30, optimizer="SGD")


def test_a_training_that_goes_on_has_the_learning_rate_of_the_call(stack: AnnData, tmp_path: Path) -> None:
    kws = QUICK | {"objective": "trajectory", "checkpoint_dir": tmp_path}
    before = isost.tl.fit(stack, **kws | {"epochs": 1})
    after = isost.tl.fit(stack, **kws, lr=1e-30, weight_decay=0.0)
    assert len(after.history) == 3
    for a, b in zip(before.forward.parameters(), after.forward.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_full_disk_leaves_what_was_there(stack: AnnData, model: IsoST, tmp_path: Path) -> None:
    isost.io.write(stack, tmp_path / "a.zarr")
    model.save(tmp_path / "model")
    writes: dict[str, Callable[[], object]] = {
        "a.zarr": lambda: isost.io.write(stack, tmp_path / "a.zarr"),
        "model": lambda: model.save(tmp_path / "model"),
    }
    for name, write in writes.items():
        with (
            disk_of(1000),
            pytest.raises(OSError, match=f"no space is left to write .*/{name}.*, and nothing") as error,
        ):
            write()
        assert error.value.errno == errno.ENOSPC
    assert {path.name for path in tmp_path.iterdir()} == {"a.zarr", "model"}
    np.testing.assert_array_equal(isost.io.read(tmp_path / "a.zarr").obsm["X_isost"], stack.obsm["X_isost"])
    assert repr(isost.IsoST.load(tmp_path / "model")) == repr(model)
    with (
        disk_of(1000),
        pytest.raises(OSError, match=r"no space .*checkpoint\.safetensors.*; no checkpoint was written"),
    ):
        isost.tl.fit(stack, **QUICK, checkpoint_dir=tmp_path / "fit")


def test_a_disk_without_space_for_h5ad_is_told_before_it_is_written(
    stack: AnnData, model: IsoST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "volume.zarr"
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(OSError, match=r"no space is left to write .*a\.h5ad, and nothing was changed there"):
            isost.io.write(stack, tmp_path / "a.h5ad")
        with pytest.raises(OSError, match=r"no space .*; slabs that are done are kept in .*volume\.zarr\.part"):
            isost.tl.reconstruct(stack, model=model, store=store)
    assert [path.name for path in tmp_path.iterdir()] == ["volume.zarr.part"]
    assert isost.tl.reconstruct(stack, model=model, store=store).n_obs


def test_a_disk_that_fills_while_h5ad_is_written_is_told(stack: AnnData, tmp_path: Path) -> None:
    isost.io.write(stack, tmp_path / "a.h5ad")
    program = (
        "import resource, sys, isost; path = sys.argv[1]; stack = isost.io.read(path); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); isost.io.write(stack, path)"
    )
    # in a process of its own, which libhdf5 may break
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program, tmp_path / "a.h5ad"], capture_output=True)
    assert b"no space is left to write" in run.stderr
    np.testing.assert_array_equal(isost.io.read(tmp_path / "a.h5ad").obsm["X_isost"], stack.obsm["X_isost"])


def _no_gpu_memory() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 10 GiB")


def _no_gpu_memory_at_all() -> None:
    raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")  # of the driver


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda: np.ones(2**58), r"out of memory \(Unable to allocate 2\.00 EiB .*\): less; nothing"),
        (lambda: torch.ones(2**50), r"out of memory \(.*allocate.*\): less; nothing"),
        (_no_gpu_memory, r"out of memory \(CUDA out .* 20\.00 GiB\.\): less; or device='cpu'; nothing"),
        (_no_gpu_memory_at_all, r"out of memory \(CUDA error: out of memory\): less; or device='cpu'; nothing"),
    ],
)
def test_too_little_memory_is_told_with_what_needs_less(work: Callable[[], object], words: str) -> None:
    with pytest.raises(MemoryError, match=words), explained(less="less", kept=lambda: "nothing"):
        work()


def test_other_errors_are_as_they_were() -> None:
    with pytest.raises(OSError, match=r"^another$"), explained(less="less", kept=lambda: "nothing"):
        raise OSError("another")


@pytest.mark.parametrize(
    ("function", "part", "words"),
    [
        ("fit", "isost.tl._fit.optimize", r"a smaller batch_size .*; nothing is kept without checkpoint_dir="),
        ("reconstruct", "isost.tl._reconstruct.Slabs", r"a larger voxel_size.*; nothing is kept without store="),
        ("section", "isost.tl._section.balanced_sample", r"fewer depths .*; nothing was written"),
    ],
)
def test_each_function_says_what_needs_less(
    stack: AnnData, model: IsoST, monkeypatch: pytest.MonkeyPatch, function: str, part: str, words: str
) -> None:
    monkeypatch.setattr(part, lambda *_, **__: _no_gpu_memory())
    kws: dict[str, Any] = {"fit": QUICK, "section": {"model": model, "z": 10.0}}.get(function, {"model": model})
    with pytest.raises(MemoryError, match=rf"out of memory \(CUDA .*\): {words}"):
        getattr(isost.tl, function)(stack, **kws)
