"""What deserves a look in sections that can be used: one function a check, each given all sections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._depths import gaps, order, units
from ._look import Finding, Look
from ._places import duplicates, numbers, outliers, scale
from ._registration import registration
from ._values import batches, counts, missing_genes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHECKS", "Finding", "Look", "findings"]

CHECKS: tuple[Callable[[Look], Iterator[Finding]], ...] = (
    units,
    order,
    gaps,
    numbers,
    scale,
    duplicates,
    outliers,
    counts,
    missing_genes,
    batches,
    registration,
)


def findings(look: Look) -> list[Finding]:
    """Run all checks, in their order."""
    return [finding for check in CHECKS for finding in check(look)]
