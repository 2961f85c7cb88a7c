"""Preparing sections: checked, read, and joined as one stack."""

from __future__ import annotations

from ._check import check, tell
from ._matrix import read_expression
from ._pca import GenePCA
from ._sections import as_sections, positions, section_depths, shared_genes
from ._slice_stack import slice_stack
from ._stack import Stack

__all__ = [
    "GenePCA",
    "Stack",
    "as_sections",
    "check",
    "positions",
    "read_expression",
    "section_depths",
    "shared_genes",
    "slice_stack",
    "tell",
]
