"""Sections to try things on: of a synthetic organ whose truth is known at every point of space, and measured ones."""

from __future__ import annotations

from ._merfish import merfish_poa
from ._organ import Organ, organ

__all__ = ["Organ", "merfish_poa", "organ"]
