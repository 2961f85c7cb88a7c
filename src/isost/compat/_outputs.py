from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from isost._untrusted import untrusted

from ._experiment import CONFIG, MODEL, checkpoints, read_json
from ._inference import RECORD, frame_paths
from ._volume import COMPONENTS, DENSITY, VOLUME

if TYPE_CHECKING:
    import os

__all__ = ["check_outputs"]


def check_outputs(
    experiment_dir: str | os.PathLike[str] | None = None, result_dir: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """List which of the published program's outputs are there.

    Parameters
    ----------
    experiment_dir
        Folder of a training: ``config.yml``, ``model.pt`` and checkpoints.
    result_dir
        Folder of an inference and its volume: the frames, ``volume.npy``, ``density.npy``, ``pc_volume.csv`` and the
        table of expression. Either folder is left out when None; that of a training is then the one that
        the inference of `result_dir` has written down, where it has.

    Returns
    -------
    One row a file or kind of file: ``file``, ``there`` and ``what``, its shape or number.
    """
    rows: list[tuple[str, bool, str]] = []
    if experiment_dir is None and result_dir is not None:
        with untrusted(Path(result_dir) / RECORD):
            experiment_dir = read_json(Path(result_dir) / RECORD).get("experiment")
            experiment_dir = None if experiment_dir is None else Path(experiment_dir)
    if experiment_dir is not None:
        folder = Path(experiment_dir)
        for path in (folder / CONFIG, folder / MODEL):
            rows.append((str(path), path.is_file(), f"{path.stat().st_size:,} bytes" if path.is_file() else ""))
        n = len(checkpoints(folder))
        rows.append((str(folder / "checkpoint_*.pt"), n > 0, f"{n} checkpoints"))
    if result_dir is not None:
        folder = Path(result_dir)
        rows.append(_frames_row(folder))
        for path in (folder / VOLUME, folder / DENSITY):
            rows.append((str(path), path.is_file(), _array_shape(path) if path.is_file() else ""))
        table = folder / COMPONENTS
        rows.append((str(table), table.is_file(), _csv_shape(table) if table.is_file() else ""))
        tables = sorted(folder.glob("log2_expr_*.parquet"))
        rows += [(str(path), True, _parquet_shape(path)) for path in tables]
        if not tables:
            rows.append((str(folder / "log2_expr_*_all_pc.parquet"), False, ""))
    return pd.DataFrame(rows, columns=["file", "there", "what"])


def _frames_row(folder: Path) -> tuple[str, bool, str]:
    try:
        return (str(folder / "*_forward.npy"), True, f"{len(frame_paths(folder))} frames")
    except FileNotFoundError as error:
        return (str(folder / "*_forward.npy"), False, str(error).split(": call")[0])


def _array_shape(path: Path) -> str:
    with untrusted(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return f"{array.shape} {array.dtype}"


def _csv_shape(path: Path) -> str:
    with untrusted(path), path.open(encoding="utf-8") as file:
        n_columns = len(next(file, "").split(","))
        return f"{sum(1 for _ in file)} rows, {n_columns} columns"


def _parquet_shape(path: Path) -> str:
    import pyarrow.parquet as pq

    with untrusted(path):
        about = pq.ParquetFile(path).metadata
    return f"{about.num_rows} rows, {about.num_columns} columns"
