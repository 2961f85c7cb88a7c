from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CAVITY", "OUTLINE", "Shape", "Tube"]

Floats: TypeAlias = NDArray[np.float64]

# A surface sampled by this many angles and rows lies within about a thousandth of its radius of the samples' tangents.
N_ANGLES, N_ROWS = 360, 160

FARTHEST = 1.3  # no outline reaches farther from its axis, in radii


@dataclass(frozen=True)
class Tube:
    """A closed body around a curved axis, in units of the organ: x and y in radii, u = z / depth.

    Its cross-section at u is star-shaped around ``centre(u)``, turned by ``angle(u)``, and shrinks towards two poles
    as an ellipsoid does.

    Attributes
    ----------
    centre
        u to the x and y of the axis.
    angle
        u to the turn of the cross-section, radians.
    reach
        Angle in the turned cross-section, and u, to the outline's distance from the axis before it shrinks.
    middle, half_length
        u half-way between the poles, and the distance in u from there to a pole.
    """

    centre: Callable[[Floats], tuple[Floats, Floats]]
    angle: Callable[[Floats], Floats]
    reach: Callable[[Floats, Floats], Floats]
    middle: float
    half_length: float

    def local(self, x: Floats, y: Floats, u: Floats) -> tuple[Floats, Floats]:
        """Coordinates in the moved and turned cross-section."""
        cx, cy = self.centre(u)
        cos, sin = np.cos(self.angle(u)), np.sin(self.angle(u))
        return cos * (x - cx) + sin * (y - cy), cos * (y - cy) - sin * (x - cx)

    def level(self, x: Floats, y: Floats, u: Floats) -> Floats:
        """0 in the middle, 1 on the surface, more outside."""
        a, b = self.local(x, y, u)
        across = np.hypot(a, b) / self.reach(np.arctan2(b, a), u)
        return np.hypot(across, (u - self.middle) / self.half_length)

    def surface(self) -> Floats:
        """Points spread over the surface, (N_ROWS · N_ANGLES, 3) in x, y, u."""
        latitude = (np.arange(N_ROWS) + 0.5) / N_ROWS * np.pi - np.pi / 2
        longitude = np.arange(N_ANGLES) / N_ANGLES * 2 * np.pi
        t, phi = (grid.ravel() for grid in np.meshgrid(latitude, longitude, indexing="ij"))
        u = self.middle + self.half_length * np.sin(t)
        r = np.cos(t) * self.reach(phi, u)
        cx, cy = self.centre(u)
        phi = phi + self.angle(u)
        return np.column_stack([cx + r * np.cos(phi), cy + r * np.sin(phi), u])


def _ellipse(phi: Floats, a: Floats | float, b: Floats | float) -> Floats:
    return a * b / np.hypot(b * np.cos(phi), a * np.sin(phi))


def _outline_centre(u: Floats) -> tuple[Floats, Floats]:
    return 0.24 * np.sin(0.9 * np.pi * u), 0.12 * np.cos(1.2 * np.pi * u)


def _outline_angle(u: Floats) -> Floats:
    return 0.45 * (u - 0.5)


def _outline_reach(phi: Floats, u: Floats) -> Floats:
    lobes = 0.07 * np.cos(2 * phi + 0.8) + 0.06 * np.cos(3 * phi - 1.6 * u)
    notch = 0.26 * np.exp((np.cos(phi + np.pi / 2) - 1) / 0.03)
    return _ellipse(phi, 1.12, 0.86) * (1 + lobes - notch)


def _cavity_centre(u: Floats) -> tuple[Floats, Floats]:
    cx, cy = _outline_centre(u)
    cos, sin = np.cos(_outline_angle(u)), np.sin(_outline_angle(u))
    a, b = 0.10 * (u - 0.5), 0.06 + 0.10 * np.sin(np.pi * u)
    return cx + cos * a - sin * b, cy + sin * a + cos * b


def _cavity_angle(u: Floats) -> Floats:
    return _outline_angle(u) + 0.5 * np.sin(1.5 * u)


def _cavity_reach(phi: Floats, u: Floats) -> Floats:
    width = 0.15 + 0.07 * np.sin(1.3 * np.pi * u)
    height = 0.40 - 0.08 * np.cos(2 * np.pi * u)
    return _ellipse(phi, width, height) * (1 + 0.10 * np.cos(3 * phi + 0.5))


OUTLINE = Tube(_outline_centre, _outline_angle, _outline_reach, middle=0.42, half_length=0.85)
CAVITY = Tube(_cavity_centre, _cavity_angle, _cavity_reach, middle=0.50, half_length=0.72)


@dataclass(frozen=True)
class Shape:
    """The organ's outline and cavity in micrometres.

    Attributes
    ----------
    radius
        About half the width of the widest section.
    depth
        From the first section, z = 0, to the last; the organ's poles lie beyond both.
    """

    radius: float
    depth: float

    def units(self, xyz: Floats) -> tuple[Floats, Floats, Floats]:
        """Micrometres (n, 3) to x and y in radii and u = z / depth."""
        return xyz[:, 0] / self.radius, xyz[:, 1] / self.radius, xyz[:, 2] / self.depth

    def body(self, xyz: Floats) -> Floats:
        """Coordinates (n, 3) that follow the organ's bend and turn, each from about -1 to 1 over the sections."""
        x, y, u = self.units(xyz)
        a, b = OUTLINE.local(x, y, u)
        return np.column_stack([a, b, 2 * u - 1])

    def inside(self, xyz: Floats) -> NDArray[np.bool_]:
        """Whether a point lies in the tissue: within the outline and not in the cavity."""
        place = self.units(xyz)
        return (OUTLINE.level(*place) < 1) & (CAVITY.level(*place) > 1)

    def bounds(self, z: float) -> tuple[Floats, Floats]:
        """Lowest and highest x and y that the outline can reach at depth z."""
        cx, cy = OUTLINE.centre(np.array([z / self.depth]))
        centre = np.concatenate([cx, cy])
        return (centre - FARTHEST) * self.radius, (centre + FARTHEST) * self.radius

    def relative_depth(self, xyz: Floats) -> Floats:
        """How far from the cavity's wall (0) towards the outline (1), as layers of a cortex are counted."""
        place = self.units(xyz)
        # A level's distance from 1 is a length in units of the body's own radius, so bring both to the same.
        to_outline = np.maximum(1 - OUTLINE.level(*place), 0.0)
        to_cavity = 0.3 * np.maximum(CAVITY.level(*place) - 1, 0.0)
        return to_cavity / (to_cavity + to_outline)

    def surface_distance(self, xyz: Floats) -> Floats:
        """Distance to the nearer of outline and cavity wall: negative in the tissue, positive outside it."""
        tree, normals = self._surface
        _, nearest = tree.query(xyz)
        # The nearest sample is rarely the foot point; the distance to its tangent plane does not mind.
        away = np.abs(np.einsum("ij,ij->i", xyz - tree.data[nearest], normals[nearest]))
        signed: Floats = np.where(self.inside(xyz), -away, away)
        return signed

    @cached_property
    def _surface(self) -> tuple[cKDTree, Floats]:
        scale = np.array([self.radius, self.radius, self.depth])
        points, normals = [], []
        for tube in (OUTLINE, CAVITY):
            surface = tube.surface()
            points.append(surface * scale)
            normals.append(_normals(tube, surface, scale))
        return cKDTree(np.vstack(points)), np.vstack(normals)


def _normals(tube: Tube, surface: Floats, scale: Floats) -> Floats:
    # unit vectors along the level's gradient in micrometres, by central differences
    gradient = np.empty_like(surface)
    for axis in range(3):
        nudge = np.zeros(3)
        nudge[axis] = 1e-5
        gradient[:, axis] = tube.level(*(surface + nudge).T) - tube.level(*(surface - nudge).T)
    gradient /= scale
    unit: Floats = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    return unit
