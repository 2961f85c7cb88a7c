from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from ._settings import settings

__all__ = ["provenance"]

_PACKAGES = ("isost", "torch", "numpy", "scipy", "anndata")
# data, which have records of their own, and what a result does not depend on: paths above all are nobody's business
_LEFT_OUT = {"adatas", "stack", "model", "stack_kws", "fit_kws", "device", "progress", "checkpoint_dir", "store"}


def provenance(function: str, params: Mapping[str, Any], *, device: object = "cpu", **inputs: Any) -> dict[str, Any]:
    """Record what made an output, enough to make it again, as AnnData and JSON can hold it.

    Parameters
    ----------
    function
        Public name of what was called.
    params
        Parameters of the call by name; without those that are None, data and paths they are kept.
    device
        Where it was computed.
    **inputs
        Records of what went in, by name; left out where there is none.

    Returns
    -------
    ``function``, ``params``, ``versions``, ``platform``, ``device``, ``n_threads``, ``precision``, and the records of
    the inputs.
    """
    return {
        "function": function,
        "params": _storable({name: value for name, value in params.items() if name not in _LEFT_OUT}),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "n_threads": settings.n_threads,
        "precision": settings.precision,
    } | {name: record for name, record in inputs.items() if record}


def _storable(value: Any) -> Any:
    """Make arrays of whatever has several values, and leave None out."""
    if isinstance(value, Mapping):
        return {name: _storable(one) for name, one in value.items() if one is not None}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return np.array(value if hasattr(value, "__array__") else list(value))
