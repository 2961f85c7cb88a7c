"""Reading and writing sections, stacks and volumes."""

from __future__ import annotations

from ._files import read, read_sections, write
from ._split import split_sections

__all__ = ["read", "read_sections", "split_sections", "write"]
