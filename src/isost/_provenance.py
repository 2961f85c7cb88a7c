from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ._settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    ``function``, ``params``, ``versions``, ``platform``, ``device``, ``n_threads``, and the records of the inputs.
    """
    kept = {name: value for name, value in params.items() if name not in _LEFT_OUT and value is not None}
    return {
        "function": function,
        "params": {name: np.array(v) if isinstance(v, list | tuple) else v for name, v in kept.items()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "n_threads": settings.n_threads,
    } | {name: record for name, record in inputs.items() if record}
