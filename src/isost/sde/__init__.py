"""Euler–Maruyama over all gaps at once: steps, noise, trajectories. No AnnData."""

from __future__ import annotations

from ._euler import euler_maruyama
from ._noise import GaussianNoise, Noise
from ._walk import DriftFunction, carry, depth_grid, step_count, walk

__all__ = ["DriftFunction", "GaussianNoise", "Noise", "carry", "depth_grid", "euler_maruyama", "step_count", "walk"]
