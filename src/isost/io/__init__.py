"""Reading and writing sections, stacks and volumes."""

from __future__ import annotations

from ._files import read, read_sections, write
from ._split import split_sections
from ._volume import SlabFolder, read_volume

__all__ = ["SlabFolder", "read", "read_sections", "read_volume", "split_sections", "write"]
