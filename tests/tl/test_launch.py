from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

import isost
from isost._processes import ALONE, join_processes
from isost.generation import _carry
from isost.tl import _launch, _worker
from isost.tl._launch import shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from isost.model import IsoST

# One step of plain gradient descent, so that the weights tell the gradient; a slab for every gap.
SCRIPT = """
import os, sys
import isost
from isost.generation import _carry

_carry._MOST_POINTS = 1
folder, step = sys.argv[1], {"objective": "trajectory", "epochs": 1, "optimizer": "SGD", "lr": 100.0}
isost.settings.verbosity, isost.settings.progress = "INFO", False
stack = isost.io.read(f"{folder}/stack.h5ad")
many = {"devices": 2, "num_nodes": 1}
model = isost.tl.fit(stack, hidden_dim=16, n_cells=30, adaptive=False, checkpoint_dir=f"{folder}/fit", **step, **many)
given = isost.IsoST.load(f"{folder}/given")
volume = isost.tl.reconstruct(stack, model=given, voxel_size=24.0, **many)
isost.tl.reconstruct(stack, model=given, voxel_size=24.0, store=f"{folder}/stored.zarr", **many)
rank = os.environ["RANK"]
model.save(f"{folder}/model-{rank}")
volume.write_h5ad(f"{folder}/volume-{rank}.h5ad")
"""


SLEEPER = """
import os, sys, time
from isost.tl._launch import shared

@shared
def sleep(folder, *, devices):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(600)

sleep(sys.argv[1], devices=2)
"""


@shared
def doubled(number: int, *, devices: int = 1, num_nodes: int = 1) -> int:
    logging.getLogger("isost").warning("logged")
    warnings.warn("warned", UserWarning, stacklevel=1)
    if number < 0:
        msg = f"negative: {number}"
        raise ValueError(msg)
    return 2 * number


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would start processes; one is played by this process, as the first of two."""
    commands: list[list[str]] = []

    class Played:
        returncode = 1

        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command)

        def wait(self) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RANK", "0")
                patch.setattr(_launch, "_rank", lambda: 0)
                with suppress(SystemExit):
                    _worker.main(Path(commands[-1][-1]))

        terminate = wait

        def __enter__(self) -> Played:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(subprocess, "Popen", Played)
    return commands


def weights(model: IsoST) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for drift in model.drifts.values() for weight in drift.parameters()])


def test_two_processes_of_torchrun_give_what_one_gives(
    stack: AnnData, model: IsoST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.write_h5ad(tmp_path / "stack.h5ad")
    model.save(tmp_path / "given")
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(_carry, "_MOST_POINTS", 1)
        patch.setattr(isost.io.SlabFolder, "join", Mock(side_effect=KeyboardInterrupt))
        isost.tl.reconstruct(stack, model=model, voxel_size=24.0, store=tmp_path / "stored.zarr")
    (tmp_path / "stored.zarr.part" / "slab-1.h5ad").unlink()  # as if one process had been stopped before it
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, tmp_path / "script.py", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("isost: fit took") == 1
    assert done.stderr.count("2 of 3 slabs are in") == 1

    step: dict[str, Any] = {"objective": "trajectory", "optimizer": "SGD", "lr": 100.0, "progress": False}
    kws = step | {"hidden_dim": 16, "n_cells": 30, "adaptive": False}
    before, after = (weights(isost.tl.fit(stack, epochs=epochs, **kws)) for epochs in (0, 1))
    found = [isost.IsoST.load(tmp_path / f"model-{rank}") for rank in (0, 1)]
    assert torch.equal(weights(found[0]), weights(found[1]))
    change = after - before
    assert (weights(found[0]) - before - change).abs().max() <= 1e-6 * change.abs().max()

    whole = isost.tl.reconstruct(stack, model=model, voxel_size=24.0)
    stored = isost.io.read_volume(tmp_path / "stored.zarr")
    for volume in (isost.io.read(tmp_path / "volume-0.h5ad"), isost.io.read(tmp_path / "volume-1.h5ad"), stored):
        np.testing.assert_array_equal(volume.X, whole.X)
        pd.testing.assert_frame_equal(volume.obs, whole.obs, check_exact=True)


def test_a_plain_call_starts_its_own_processes(stack: AnnData, model: IsoST, fit_kws: dict[str, Any]) -> None:
    found = isost.tl.fit(stack, devices=2, **fit_kws)
    pd.testing.assert_frame_equal(found.history, model.history, rtol=1e-4)
    torch.testing.assert_close(weights(found), weights(model), rtol=0, atol=2e-3)


@pytest.mark.parametrize("bad", [{"devices": 0}, {"devices": "2"}, {"num_nodes": 1.5}])
def test_bad_numbers_are_named(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(ValueError, match=rf"{name} must be a whole number, at least 1, got {bad[name]!r}"):
        doubled(1, **bad)


def test_several_nodes_need_a_launcher(stack: AnnData) -> None:
    with pytest.raises(ValueError, match="num_nodes=2 needs a process for every device"):
        isost.tl.fit(stack, num_nodes=2)


def test_bad_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="devices=2, but there are 1 GPUs"):
        join_processes(2, 1, torch.device("cuda"))
    with pytest.raises(ValueError, match="device='cuda:0' is a single one"):
        join_processes(2, 1, torch.device("cuda:0"))
    assert join_processes(1, 1, torch.device("cuda:0")) == (ALONE, torch.device("cuda:0"))


@pytest.mark.usefixtures("settings_as_they_were")
def test_results_errors_and_a_sudden_end_come_back(torchrun: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="warned"):
        assert doubled(4, devices=2) == 8
    assert {"--standalone", "--nproc-per-node=2"} < set(torchrun[0])
    with pytest.warns(UserWarning, match="warned"), pytest.raises(ValueError, match="negative: -1") as caught:
        doubled(-1, devices=2)
    assert "in doubled" in caught.value.__notes__[0]
    monkeypatch.setattr(_worker, "main", lambda _: None)
    with pytest.raises(subprocess.CalledProcessError, match="exit status 1"):
        doubled(4, devices=2)


def test_an_interrupted_call_waits_for_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Interrupted:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def wait(self) -> None:
            done.append("wait")
            if len(done) == 1:
                raise KeyboardInterrupt

        def terminate(self) -> None:
            done.append("terminate")

        def __enter__(self) -> Interrupted:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        doubled(4, devices=2)
    assert done == ["wait", "terminate", "wait"]


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_no_process_outlives_a_killed_caller(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SLEEPER)
    folder = tmp_path / "started"
    folder.mkdir()
    with subprocess.Popen([sys.executable, tmp_path / "script.py", folder]) as caller:
        assert within(60, lambda: len(list(folder.iterdir())) == 2)
        caller.kill()
    started = [int(path.name) for path in folder.iterdir()]
    assert within(60, lambda: not any(is_alive(process) for process in started))


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (is_so := happened()) and time.monotonic() < end:
        time.sleep(0.1)
    return is_so


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "Z (zombie)" not in status.read_text()


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(_launch, "_rank", lambda: 1)
    assert doubled(4, devices=2) == 8
    assert caplog.text == ""
    with pytest.warns(UserWarning, match="warned"):
        doubled(4)
    assert "logged" in caplog.text


@pytest.mark.parametrize(("n_tasks", "rank"), [(1, None), (2, 1)])
def test_processes_of_slurm_are_recognised(monkeypatch: pytest.MonkeyPatch, n_tasks: int, rank: int | None) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    assert _launch._rank() is None
    for name, value in {"NTASKS": n_tasks, "NTASKS_PER_NODE": n_tasks, "PROCID": 1}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert _launch._rank() == rank
