from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.spatial import cKDTree

from isost._normalization import SPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from ._inputs import Sections

__all__ = ["DepthCut", "PlaneCut", "as_cuts", "is_single"]


@dataclass(frozen=True)
class DepthCut:
    """A section parallel to the measured ones: every cell at one depth."""

    depths: NDArray[np.float64]  # (1,), input units
    share: float = 1.0  # of a section's cells that each depth stands for

    def holds(self, place: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether places (n, 3) lie in the cut."""
        return np.ones(len(place), dtype=bool)

    def flatten(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates (n, 2) inside the cut."""
        return place[:, :2]


@dataclass(frozen=True)
class PlaneCut:
    """A slab around an oblique plane, made of thin frames at many depths."""

    origin: NDArray[np.float64]  # (3,), input units
    normal: NDArray[np.float64]  # (3,), of length 1
    thickness: float
    depths: NDArray[np.float64]
    share: float

    def holds(self, place: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether places (n, 3) lie in the slab."""
        inside: NDArray[np.bool_] = np.abs((place - self.origin) @ self.normal) <= self.thickness / 2
        return inside

    def flatten(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates (n, 2) along the two axes of the plane that are nearest to x and y, or to x and z."""
        helper = np.eye(3)[0] if abs(self.normal[0]) < 0.9 else np.eye(3)[1]
        first = helper - (helper @ self.normal) * self.normal
        first /= np.linalg.norm(first)
        flat: NDArray[np.float64] = (place - self.origin) @ np.column_stack([first, np.cross(self.normal, first)])
        return flat


def as_cuts(
    sections: Sections,
    *,
    z: float | Sequence[float] | None,
    plane: tuple[ArrayLike, ArrayLike] | Sequence[tuple[ArrayLike, ArrayLike]] | None,
    thickness: float | None,
) -> list[DepthCut | PlaneCut]:
    """Check what was asked for and lay it out, before any work starts."""
    if (z is None) == (plane is None):
        msg = "give either z= (one depth or a list) or plane=(origin, normal), not both"
        raise ValueError(msg)
    if z is not None:
        if thickness is not None:
            msg = "thickness= belongs to plane=: a section at a depth z is flat"
            raise ValueError(msg)
        return [_depth_cut(sections, float(depth)) for depth in np.atleast_1d(np.asarray(z, dtype=np.float64))]
    if thickness is not None and not thickness > 0:
        msg = f"thickness must be positive, got {thickness}"
        raise ValueError(msg)
    pairs: Sequence[Any] = [plane] if is_single(plane=plane) else cast("Any", plane)
    return [_plane_cut(sections, *pair, thickness=thickness) for pair in pairs]


def is_single(*, z: object = None, plane: Any = None) -> bool:
    """Whether one depth or one (origin, normal) was asked for, rather than a list of them."""
    return np.ndim(plane[0]) == 1 if plane is not None else np.ndim(cast("Any", z)) == 0


def _depth_cut(sections: Sections, depth: float) -> DepthCut:
    low, high = sections.stack.z[0], sections.stack.z[-1]
    if not low <= depth <= high:
        msg = f"z = {depth:g} lies outside the stack, whose sections span z = {low:g} to {high:g}"
        raise ValueError(msg)
    return DepthCut(np.array([depth]))


def _plane_cut(sections: Sections, origin: ArrayLike, normal: ArrayLike, *, thickness: float | None) -> PlaneCut:
    point, direction = np.asarray(origin, np.float64), np.asarray(normal, np.float64)
    if point.shape != (3,) or direction.shape != (3,) or not np.linalg.norm(direction) > 0:
        msg = f"a plane is a point and a normal of three numbers each, not all zero, got {origin!r} and {normal!r}"
        raise ValueError(msg)
    direction = direction / np.linalg.norm(direction)
    stack = sections.stack
    spacing = _spacing(sections)
    thickness = spacing if thickness is None else thickness
    # where the slab passes through the box around the tissue: the box's corners bound n·p in the plane of each depth
    places = stack.normalization.decode(stack.state[:, :3], dims=SPACE)[:, :2]
    low, high = places.min(0), places.max(0)
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    across = (corners - point[:2]) @ direction[:2]
    # frames at most a cell's spacing or half the slab apart, each standing for that share of a section
    n_frames = max(1, int(np.ceil((stack.z[-1] - stack.z[0]) / min(spacing, thickness / 2))))
    depths = np.linspace(stack.z[0], stack.z[-1], n_frames + 1)
    along = (depths - point[2]) * direction[2]
    touched = (along + across.min() <= thickness / 2) & (along + across.max() >= -thickness / 2)
    if not touched.any():
        msg = f"the plane through {point} with normal {direction} does not meet the stack"
        raise ValueError(msg)
    share = (stack.z[-1] - stack.z[0]) / n_frames / spacing
    return PlaneCut(point, direction, thickness, depths[touched], min(1.0, share))


def _spacing(sections: Sections) -> float:
    """Median distance of a cell to its nearest neighbour inside sections, input units."""
    scale = sections.stack.normalization.scale[0]
    nearest = [cKDTree(p).query(p, [2])[0][:, 0] for p in sections.positions]
    return float(np.median(np.concatenate(nearest)) * scale)
