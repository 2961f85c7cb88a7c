"""Between the sections: cells carried to any depth, and the expression expected there. No AnnData."""

from __future__ import annotations

from ._carry import Carried, carry_sections, locate, runs_of_gaps
from ._expectation import Expectation, Expected, cell_variance, trace_back

__all__ = [
    "Carried",
    "Expectation",
    "Expected",
    "carry_sections",
    "cell_variance",
    "locate",
    "runs_of_gaps",
    "trace_back",
]
