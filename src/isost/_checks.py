"""Checks of what is given and of what is installed, in the same words everywhere."""

from __future__ import annotations

import math
import os
from difflib import get_close_matches
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isost import _keys as keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

__all__ = [
    "available_memory",
    "check_at_least",
    "check_count",
    "check_positive",
    "check_volume",
    "did_you_mean",
    "kind_of",
    "layer_names",
    "optional",
]

_MEMINFO = Path("/proc/meminfo")
_NEAR = 0.75  # of their letters that two names must share, in order: all but one of four


def check_at_least(least: int, **numbers: float) -> None:
    """Raise ValueError if a number, named as the parameter that it was given by, is below `least` or NaN."""
    for name, number in numbers.items():
        if not number >= least:
            msg = f"{name} must be at least {least}, got {number}"
            raise ValueError(msg)


def check_count(**numbers: object) -> None:
    """Raise ValueError if a number, named as the parameter that it was given by, is no whole one or below 1."""
    for name, number in numbers.items():
        if not (isinstance(number, int) and number >= 1):
            msg = f"{name} must be a whole number, at least 1, got {number!r}"
            raise ValueError(msg)


def check_positive(**numbers: float | None) -> None:
    """Raise ValueError if a number, named as the parameter that it was given by, is not positive and finite."""
    for name, number in numbers.items():
        if number is not None and not (math.isfinite(number) and number > 0):
            msg = f"{name} must be a positive number, got {number}"
            raise ValueError(msg)


def check_volume(volume: AnnData) -> None:
    """Raise KeyError if an AnnData is not what `isost.tl.reconstruct` returns."""
    if "grid" not in volume.uns.get(keys.UNS, {}) or keys.VOXEL not in volume.obsm or keys.DENSITY not in volume.obs:
        msg = (
            "this AnnData is no volume: uns['isost']['grid'], obsm['voxel'] and obs['density'] are needed; "
            "make one by isost.tl.reconstruct"
        )
        raise KeyError(msg)


def available_memory() -> float:
    """Bytes of memory that can still be taken: what Linux says is available, elsewhere all that there is.

    Infinite where neither can be known.
    """
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


def did_you_mean(missing: Sequence[str], names: Iterable[str], *, otherwise: str) -> str:
    """Suggest the names that are like those which are not there: their letters in another case, or all but few of them.

    Parameters
    ----------
    missing
        What was asked for; the first three are looked for.
    names
        What is there.
    otherwise
        What to say where nothing is like it.
    """
    by_lower = {other.lower(): other for other in names}  # genes are misspelt in case more often than in letters
    near: list[str] = []
    for name in (str(name).lower() for name in missing[:3]):
        near += [name] if name in by_lower else get_close_matches(name, list(by_lower), n=3, cutoff=_NEAR)
    return f"did you mean {' or '.join(repr(by_lower[name]) for name in near)}?" if near else otherwise


def kind_of(thing: object) -> str:
    """Name what was given instead of an AnnData, and say of a path how to read what lies there."""
    kind = type(thing).__name__
    is_path = isinstance(thing, str | PathLike)
    return f"{kind}; read files by isost.io.read_sections, or one by isost.io.read" if is_path else kind


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers of an AnnData; since anndata 0.13 X is among its layers too, under the name None."""
    return [name for name in adata.layers if name is not None]


def optional(module: str, *, by: str, extra: str, package: str | None = None) -> Any:
    """Import what only an extra of isost installs, or raise ImportError with the command that does.

    Parameters
    ----------
    module
        Module to import.
    by
        What it is needed by, as the caller knows it.
    extra
        Extra of isost that installs it.
    package
        Name under which it is installed; that of the module when None.
    """
    try:
        return import_module(module)
    except ImportError as error:
        msg = f"{by} needs {package or module}: pip install 'isost[{extra}]'"
        raise ImportError(msg) from error
