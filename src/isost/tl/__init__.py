"""Compute: fit a model, reconstruct the volume, generate sections at any depth."""

from __future__ import annotations

from ._fit import fit
from ._reconstruct import reconstruct
from ._section import section

__all__ = ["fit", "reconstruct", "section"]
