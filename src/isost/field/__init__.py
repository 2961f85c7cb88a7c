"""Smooth fields of one section on the plane, and evenly spread draws from it."""

from __future__ import annotations

from ._components import complementary_components
from ._local_linear import Estimate, LocalLinear
from ._thinning import hilbert_order, systematic_sample
from ._width import choose_width

__all__ = ["Estimate", "LocalLinear", "choose_width", "complementary_components", "hilbert_order", "systematic_sample"]
