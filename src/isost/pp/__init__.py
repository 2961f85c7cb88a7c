"""Preparing sections: checked, read, and joined as one stack."""

from __future__ import annotations

from ._check import check, tell
from ._matrix import is_lazy, read_expression, read_rows, row_blocks
from ._pca import GenePCA
from ._registration import check_registration
from ._sections import as_sections, positions, section_depths, shared_genes
from ._slice_stack import slice_stack
from ._stack import Stack

__all__ = [
    "GenePCA",
    "Stack",
    "as_sections",
    "check",
    "check_registration",
    "is_lazy",
    "positions",
    "read_expression",
    "read_rows",
    "row_blocks",
    "section_depths",
    "shared_genes",
    "slice_stack",
    "tell",
]
