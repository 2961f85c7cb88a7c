"""3D spatial transcriptomics volumes of equal resolution from registered 2D sections."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import compat, datasets, io, metrics, pl, pp, tl
    from ._settings import settings
    from .model import IsoST

__version__ = version("isost")
__all__ = ["IsoST", "__version__", "compat", "datasets", "io", "metrics", "pl", "pp", "settings", "tl"]

_ROOMS = frozenset({"compat", "datasets", "io", "metrics", "pl", "pp", "tl"})


def __getattr__(name: str) -> Any:
    # Rooms load when first used: scanpy and torch take seconds to import, `import isost` must not.
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name == "IsoST":
        return import_module(".model", __name__).IsoST
    if name == "settings":
        return import_module("._settings", __name__).settings
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
