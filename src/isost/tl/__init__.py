"""Compute: fit a model, reconstruct the volume, generate sections at any depth, score them."""

from __future__ import annotations

from ._evaluate import evaluate
from ._fit import fit
from ._inputs import as_device as as_device
from ._reconstruct import reconstruct
from ._section import section
from ._threads import few_threads as few_threads

__all__ = ["evaluate", "fit", "reconstruct", "section"]
