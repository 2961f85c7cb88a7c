from __future__ import annotations

from ._slices import slices
from ._volume import volume

__all__ = ["slices", "volume"]
