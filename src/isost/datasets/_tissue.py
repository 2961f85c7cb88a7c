from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

if TYPE_CHECKING:
    from ._shape import Floats, Shape

__all__ = ["CELL_TYPES", "COLORS", "cell_type_probabilities", "density"]

CELL_TYPES = ("Lining", "Layer1", "Layer2", "Layer3", "Rim", "Nucleus", "Scattered")
COLORS = ("#D55E00", "#E69F00", "#56B4E9", "#0072B2", "#999999", "#009E73", "#CC79A7")

# Cells per area, relative: a lining is packed, the outer rim is loose.
_DENSITY = np.array([2.0, 1.4, 0.95, 1.05, 0.7, 1.5, 1.0])

# Borders between the first five types, from the cavity outwards, and how soft each is, in relative depth.
_BORDERS = np.array([0.090, 0.30, 0.62, 0.90])
_SOFTNESS = np.array([0.010, 0.030, 0.035, 0.020])

_SCATTERED = 0.06


def cell_type_probabilities(shape: Shape, xyz: Floats) -> Floats:
    """Chance (n, types) that a cell at a point is of each of `CELL_TYPES`; rows sum to 1."""
    layers = _layers(shape, xyz)
    nucleus = _nucleus(shape, xyz)[:, None]
    native = np.column_stack([(1 - nucleus) * layers, nucleus])
    return np.column_stack([(1 - _SCATTERED) * native, np.full(len(xyz), _SCATTERED)])


def density(shape: Shape, xyz: Floats) -> Floats:
    """Cells per area (n,), about 1 in a layer; 0 outside the tissue."""
    return np.where(shape.inside(xyz), cell_type_probabilities(shape, xyz) @ _DENSITY, 0.0)


def _layers(shape: Shape, xyz: Floats) -> Floats:
    body = shape.body(xyz)
    relative = shape.relative_depth(xyz)
    turn = 1.2 + 0.7 * body[:, 2]
    side = np.cos(turn) * body[:, 0] + np.sin(turn) * body[:, 1]
    # Layers thin on one side and thicken on the other, but the lining and the rim keep to the surfaces.
    relative = relative + 0.45 * relative * (1 - relative) * side
    beyond = expit((relative[:, None] - _BORDERS) / _SOFTNESS)
    within = np.ones(len(xyz))
    outermost_first = []
    for border in beyond.T[::-1]:
        outermost_first.append(within * border)
        within = within * (1 - border)
    return np.column_stack([within, *outermost_first[::-1]])


def _nucleus(shape: Shape, xyz: Floats) -> Floats:
    # a compact group of cells on one side, which wanders along the depth
    body = shape.body(xyz)
    t = body[:, 2]
    off_x, off_y = body[:, 0] - (0.62 - 0.06 * t), body[:, 1] - (0.10 + 0.22 * t)
    off = np.sqrt((off_x / 0.24) ** 2 + (off_y / 0.30) ** 2 + (t / 1.8) ** 2)
    inside: Floats = expit((1 - off) / 0.08)
    return inside
