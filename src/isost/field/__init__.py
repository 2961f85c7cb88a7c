"""Smooth fields of one section on the plane, and evenly spread draws from it."""

from __future__ import annotations

from ._balance import balanced_sample
from ._components import complementary_components
from ._lattice import Lattice
from ._local_linear import Estimate, LocalLinear
from ._smoothing import choose_smoothing
from ._thinning import evenly_spread, hilbert_order, systematic_sample

__all__ = [
    "Estimate",
    "Lattice",
    "LocalLinear",
    "balanced_sample",
    "choose_smoothing",
    "complementary_components",
    "evenly_spread",
    "hilbert_order",
    "systematic_sample",
]
