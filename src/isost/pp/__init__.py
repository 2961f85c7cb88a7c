"""Preparing sections."""

from __future__ import annotations

from ._pca import GenePCA
from ._sections import as_sections
from ._slice_stack import slice_stack
from ._stack import Stack

__all__ = ["GenePCA", "Stack", "as_sections", "slice_stack"]
