"""Checks of what is given and of what is installed, in the same words everywhere."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from isost import _keys as keys

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_at_least", "check_positive", "check_volume", "optional"]


def check_at_least(least: int, **numbers: float) -> None:
    """Raise ValueError if a number, named as the parameter that it was given by, is below `least` or NaN."""
    for name, number in numbers.items():
        if not number >= least:
            msg = f"{name} must be at least {least}, got {number}"
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
