from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from isost._normalization import Normalization
from isost._untrusted import untrusted
from isost._writing import whole_file

if TYPE_CHECKING:
    import os

__all__ = ["csv_digest", "read_normalization", "write_normalization"]

MINIMUM, SCALE = "min_dic.csv", "scale_dic.csv"


def read_normalization(
    data_dir: str | os.PathLike[str], *, n_comps: int | None = None, z_scale: float = 1.0
) -> Normalization:
    """Read ``min_dic.csv`` (x, y, z, PC_1 …) and ``scale_dic.csv`` (xy, PC_1 …) of a folder of sections.

    Parameters
    ----------
    data_dir
        The folder.
    n_comps
        Components G that both must have; any when None.
    z_scale
        Scale of z, which the files do not hold; as published, z is not scaled.

    Returns
    -------
    The normalisation. Where there is no minimum of z, it is 0.

    Raises
    ------
    FileNotFoundError
        If one is missing.
    ValueError
        If one is not as it must be, or they do not belong together or to `n_comps`.
    """
    low, scale = _row(Path(data_dir) / MINIMUM), _row(Path(data_dir) / SCALE)
    columns = {MINIMUM: _components(low), SCALE: _components(scale)}
    for name, needed in ((MINIMUM, {"x", "y"}), (SCALE, {"xy"})):
        if lacking := sorted(needed - set(low if name == MINIMUM else scale)):
            msg = f"{Path(data_dir) / name} lacks the column {', '.join(lacking)}"
            raise ValueError(msg)
        if columns[name] != list(range(1, len(columns[name]) + 1)):
            msg = f"{Path(data_dir) / name} must have columns PC_1, PC_2, … without a gap, has {columns[name]}"
            raise ValueError(msg)
        if n_comps is not None and len(columns[name]) != n_comps:
            msg = (
                f"{Path(data_dir) / name} has {len(columns[name])} components, and these sections have {n_comps}: it "
                f"is of another set"
            )
            raise ValueError(msg)
    if columns[MINIMUM] != columns[SCALE]:
        msg = (
            f"{Path(data_dir) / MINIMUM} has {len(columns[MINIMUM])} components and {SCALE} {len(columns[SCALE])}: "
            f"they are not of one set"
        )
        raise ValueError(msg)
    names = [f"PC_{i}" for i in columns[SCALE]]
    scales = np.array([scale["xy"], scale["xy"], z_scale, *(scale[name] for name in names)])
    if (scales <= 0).any():
        msg = f"{Path(data_dir) / SCALE} must hold positive numbers"
        raise ValueError(msg)
    return Normalization(np.array([low["x"], low["y"], low.get("z", 0.0), *(low[name] for name in names)]), scales)


def write_normalization(data_dir: Path, normalization: Normalization) -> None:
    """Write the two files; the scale of z has no place in them."""
    names = [f"PC_{i}" for i in range(1, normalization.n_comps + 1)]
    minimum, scale = normalization.minimum, normalization.scale
    for file, columns, values in (
        (MINIMUM, ["x", "y", "z", *names], minimum),
        (SCALE, ["xy", *names], np.append(scale[:1], scale[3:])),
    ):
        with whole_file(data_dir / file) as unfinished:
            pd.DataFrame([values], columns=columns).to_csv(unfinished, index=False)


def csv_digest(data_dir: str | os.PathLike[str], *, n_comps: int | None = None) -> str:
    """Digest of what the two files say, to six digits, by which a set is known again; empty where there are not both.

    The minimum of z does not count: some copies of a set leave it out.
    """
    if not all((Path(data_dir) / name).is_file() for name in (MINIMUM, SCALE)):
        return ""
    found = read_normalization(data_dir, n_comps=n_comps)
    numbers = np.delete(np.concatenate([found.minimum, found.scale]), 2)
    return hashlib.sha256(" ".join(f"{number:.6g}" for number in numbers).encode()).hexdigest()


def _row(path: Path) -> dict[str, float]:
    if not path.is_file():
        msg = f"there is no {path}, which undoes the normalisation of the sections"
        raise FileNotFoundError(msg)
    with untrusted(path):
        # as text, of which Python makes numbers to the last bit: pandas 2 does so only with a choice that 3 deprecates
        table = pd.read_csv(path, dtype=str, usecols=lambda name: not str(name).startswith("Unnamed"))
        numbers = table.to_numpy(object).astype(np.float64)
    if len(numbers) != 1 or not np.isfinite(numbers).all():
        msg = f"{path} must hold one row of finite numbers"
        raise ValueError(msg)
    return dict(zip(map(str, table.columns), numbers[0].tolist(), strict=True))


def _components(row: dict[str, float]) -> list[int]:
    return [int(match[1]) for name in row if (match := re.fullmatch(r"PC_(\d+)", name))]
