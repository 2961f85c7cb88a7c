from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import cloudpickle

from isost._checks import check_count
from isost._logging import logger
from isost._settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ERROR", "RESULT", "TASK", "shared"]

TASK, RESULT, ERROR = "task", "result", "error"  # files by which processes started here are told and tell

_P = ParamSpec("_P")
_T = TypeVar("_T")


def shared(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a function with parameters `devices` and `num_nodes` run in as many processes, all on the same input.

    Where torchrun or SLURM started the processes, the function runs in each, and in the first alone it logs and warns.
    Elsewhere they are started here, for this call alone: fresh ones, that know nothing of the caller's script.
    """

    @wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        n_processes = _checked(**{name: kwargs[name] for name in ("devices", "num_nodes") if name in kwargs})
        if n_processes == 1:
            return function(*args, **kwargs)
        rank = _rank()
        if rank is None:
            return cast("_T", _launched(called, args, kwargs))
        if rank == 0:
            return function(*args, **kwargs)
        with _silence():
            return function(*args, **kwargs)

    return called


def _checked(devices: object = 1, num_nodes: object = 1) -> int:
    """Return the number of processes."""
    check_count(devices=devices, num_nodes=num_nodes)
    return cast("int", devices) * cast("int", num_nodes)


def _rank() -> int | None:
    """Rank of this process among those that torchrun or SLURM started; None where there are no others."""
    from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    for environment in (TorchElasticEnvironment, SLURMEnvironment):  # in the order in which lightning-fabric asks
        if environment.detect() and (found := environment()).world_size() > 1:
            return int(found.global_rank())
    return None


@contextmanager
def _silence() -> Iterator[None]:
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.disabled = before


def _launched(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Call a function of isost in processes of this machine, started by torchrun; what it returns in the first."""
    if (num_nodes := kwargs.get("num_nodes", 1)) > 1:
        msg = (
            f"num_nodes={num_nodes} needs a process for every device of every node, started by torchrun or srun: see "
            f"the page 'Large data' of the documentation; or choose num_nodes=1"
        )
        raise ValueError(msg)
    with TemporaryDirectory() as folder:
        task, result, error = (Path(folder) / name for name in (TASK, RESULT, ERROR))
        session = {name: getattr(settings, name) for name in ("progress", "n_threads", "precision", "verbosity")}
        with task.open("wb") as file:
            cloudpickle.dump((function, args, kwargs, session), file)  # pickle cannot do what dask is to read
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*torchrun, f"--nproc-per-node={kwargs['devices']}", "--module", "isost.tl._worker", folder]
        environment = os.environ | {"OMP_NUM_THREADS": str(settings.n_threads)}
        # by a pipe that closes with this process, however it ends, those started here know to end, too
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as processes:
            try:
                processes.wait()
            finally:
                processes.terminate()  # torchrun ends those that it started
                processes.wait()
        if error.is_file():
            raise pickle.loads(error.read_bytes())
        if not result.is_file():
            raise subprocess.CalledProcessError(processes.returncode, command)
        with result.open("rb") as file:
            return pickle.load(file)
