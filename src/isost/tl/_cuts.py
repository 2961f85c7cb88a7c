from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from isost._checks import check_positive
from isost._normalization import SPACE
from isost.volume import cell_spacing, plane_axes, read_plane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from ._inputs import Sections

__all__ = ["DepthCut", "PlaneCut", "as_cuts", "is_single"]

_ROUNDING = 1e-9  # of the stack's depth


@dataclass(frozen=True)
class DepthCut:
    """A section parallel to the measured ones: every cell at one depth."""

    depths: NDArray[np.float64]  # (1,), input units

    def shares(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of a section's cells (n,) that the cut takes at places (n, 3): all of them."""
        return np.ones(len(place))

    def flatten(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates (n, 2) inside the cut."""
        return place[:, :2]


@dataclass(frozen=True)
class PlaneCut:
    """A slab around an oblique plane, made of thin frames at many depths."""

    origin: NDArray[np.float64]  # (3,), input units
    normal: NDArray[np.float64]  # (3,), of length 1
    thickness: float  # along the normal
    spacing: float  # of cells inside sections: how thick a section is taken to be
    depths: NDArray[np.float64]  # of the frames, ascending
    ends: tuple[float, float]  # lowest and highest depth of the tissue

    def shares(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of a section's cells (n,) that the cut takes at places (n, 3) of its frames; 0 outside the slab.

        A column of tissue one section thick holds one section's cells. The frames that meet the slab in the column of
        a place share the height of that stretch equally, so the number of cells does not hang on how many they are.
        """
        low, high = self._faces(place)
        n_frames = np.searchsorted(self.depths, high, "right") - np.searchsorted(self.depths, low, "left")
        height = np.clip(high, *self.ends) - np.clip(low, *self.ends)
        inside = (low <= place[:, 2]) & (place[:, 2] <= high)
        return np.where(inside, np.clip(height / self.spacing / np.maximum(n_frames, 1), 0.0, 1.0), 0.0)

    def _faces(self, place: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Depths (n,) between which the slab lies, above and below each place."""
        across = (place[:, :2] - self.origin[:2]) @ self.normal[:2]
        if self.normal[2] == 0:
            above = np.where(np.abs(across) <= self.thickness / 2, np.inf, -np.inf)
            return -above, above
        middle = self.origin[2] - across / self.normal[2]
        half = self.thickness / 2 / abs(self.normal[2])
        return middle - half, middle + half

    def flatten(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates (n, 2) along the two axes of the plane nearest to x and y, or to x and z, or to y and z."""
        flat: NDArray[np.float64] = (place - self.origin) @ plane_axes(self.normal)
        return flat


def as_cuts(
    sections: Sections,
    *,
    z: float | Sequence[float] | None,
    plane: tuple[ArrayLike, ArrayLike] | Sequence[tuple[ArrayLike, ArrayLike]] | None,
    thickness: float | None,
) -> list[DepthCut | PlaneCut]:
    """Check what was asked for and lay it out, before any work starts.

    Parameters
    ----------
    sections
        The sections between which the cuts must lie.
    z, plane, thickness
        As those of :func:`isost.tl.section`.

    Returns
    -------
    One cut for each depth or plane, in the order given.

    Raises
    ------
    ValueError
        If not exactly one of `z` and `plane` is given, one is malformed or lies outside the stack, or `thickness` is
        not positive or has no effect.
    """
    if (z is None) == (plane is None):
        msg = "give one of z= (a depth or a list) and plane=(origin, normal): neither or both were given"
        raise ValueError(msg)
    if z is not None:
        if thickness is not None:
            msg = "thickness= belongs to plane=: a section at a depth z is flat"
            raise ValueError(msg)
        depths = np.ravel(np.asarray(z, dtype=np.float64))
        _check_some(depths, "z")
        return [_depth_cut(sections, float(depth)) for depth in depths]
    check_positive(thickness=thickness)
    _check_some(plane, "plane")
    pairs: Sequence[Any] = [plane] if is_single(plane=plane) else cast("Any", plane)
    spacing = _spacing(sections)
    return [_plane_cut(sections, pair, thickness=thickness or spacing, spacing=spacing) for pair in pairs]


def _check_some(wanted: Any, name: str) -> None:
    if not len(wanted):
        msg = f"{name}= is an empty list; ask for at least one section"
        raise ValueError(msg)


def is_single(*, z: object = None, plane: Any = None) -> bool:
    """Whether one depth or one (origin, normal) was asked for, rather than a list of them."""
    return np.ndim(plane[0]) == 1 if plane is not None else np.ndim(cast("Any", z)) == 0


def _depth_cut(sections: Sections, depth: float) -> DepthCut:
    low, high = sections.stack.z[0], sections.stack.z[-1]
    slack = _ROUNDING * (high - low)
    if not low - slack <= depth <= high + slack:
        msg = f"z = {depth:g} lies outside the stack, whose sections span z = {low:g} to {high:g}"
        raise ValueError(msg)
    return DepthCut(np.array([depth]))


def _plane_cut(sections: Sections, pair: Any, *, thickness: float, spacing: float) -> PlaneCut:
    point, direction = read_plane(pair)
    stack = sections.stack
    # where the slab passes through the box around the tissue: the box's corners bound n·p in the plane of each depth
    places = stack.normalization.decode(stack.state[:, :3], dims=SPACE)[:, :2]
    low, high = places.min(0), places.max(0)
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    across = (corners - point[:2]) @ direction[:2]
    # frames at most half a cell's spacing or half the slab apart, so that each stands for less than a section
    n_frames = int(np.ceil((stack.z[-1] - stack.z[0]) / (min(spacing, thickness) / 2)))
    depths = np.linspace(stack.z[0], stack.z[-1], n_frames + 1)
    along = (depths - point[2]) * direction[2]
    touched = (along + across.min() <= thickness / 2) & (along + across.max() >= -thickness / 2)
    if not touched.any():
        msg = (
            f"the plane through {point} with normal {direction} does not meet the stack, which spans x = {low[0]:g} to "
            f"{high[0]:g}, y = {low[1]:g} to {high[1]:g} and z = {stack.z[0]:g} to {stack.z[-1]:g}"
        )
        raise ValueError(msg)
    ends = (stack.z[0] - spacing / 2, stack.z[-1] + spacing / 2)
    return PlaneCut(point, direction, thickness, spacing, depths[touched], ends)


def _spacing(sections: Sections) -> float:
    """Median distance of a cell to its nearest neighbour inside sections, input units."""
    spacing = cell_spacing(sections.positions) * float(sections.stack.normalization.scale[0])
    if spacing == 0:
        msg = "most cells lie exactly on another cell of their section, so a plane has no thickness; ask for z="
        raise ValueError(msg)
    return spacing
