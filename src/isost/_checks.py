"""Checks of numbers that are given, in the same words everywhere."""

from __future__ import annotations

import math

__all__ = ["check_at_least", "check_positive"]


def check_at_least(least: int, **numbers: float) -> None:
    """Raise ValueError if a number, named as the parameter that it was given by, is below `least` or NaN."""
    for name, number in numbers.items():
        if not number >= least:
            msg = f"{name} must be at least {least}, got {number}"
            raise ValueError(msg)


def check_positive(**numbers: float | None) -> None:
    """Raise ValueError if a number, named as the parameter that it was given by, is not positive and finite."""
    for name, number in numbers.items():
        if number is not None and not (math.isfinite(number) and number > 0):
            msg = f"{name} must be a positive number, got {number}"
            raise ValueError(msg)
