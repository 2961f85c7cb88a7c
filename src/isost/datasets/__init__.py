"""Sections to try things on, with the truth known at every point of space."""

from __future__ import annotations

from ._organ import Organ, organ

__all__ = ["Organ", "organ"]
