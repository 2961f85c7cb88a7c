from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter

from ._look import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ._look import Look

__all__ = ["registration"]

_N_BINS = 16  # along x and y: coarse, since only gross errors are looked for
_N_COMPS = 5
_FEWEST_GENES = 10  # with fewer, chance makes patterns alike
_STEP = 15  # degrees between the angles tried
_GAIN = 0.25  # of the fit, by which another pose must be better
_FITS = 0.5  # cosine of expression in the better pose: below it is chance
_OFF = 0.1  # of the width: how far a section may lie beside the line between its neighbours
_OFF_AT_END = 0.5  # of the width, where there is one neighbour only
_CHANCE = 4  # standard errors of a centre: what few cells may lie beside by themselves
_SHIFT_GAIN = 0.05  # of the fit with both neighbours, by being laid on them


class _Pose(NamedTuple):
    """How a section is turned about its centre."""

    mirrored: bool
    angle: int  # degrees

    def matrix(self) -> NDArray[np.float64]:
        cos, sin = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
        turn: NDArray[np.float64] = np.array([[cos, -sin], [sin, cos]])
        return turn * [-1, 1] if self.mirrored else turn


class _Pair(NamedTuple):
    """How two sections, one above the other, fit each other."""

    pose: _Pose | None  # in which the upper one is turned against the lower one, if it is
    shift_gain: float  # of the fit, when the centre of one is laid on that of the other


_UPRIGHT = _Pose(mirrored=False, angle=0)
_POSES = [_Pose(mirrored, angle) for mirrored in (False, True) for angle in range(0, 360, _STEP)]


def registration(look: Look) -> Iterator[Finding]:
    """Find sections that are mirrored, rotated or shifted against their neighbours.

    Cells and expression of a section, averaged over coarse squares, are compared with those of the next one as they
    are and in other poses. What is symmetric cannot be told from its mirror image. Number: degrees, for a shift widths
    of the section.
    """
    if look.profiles[0].shape[1] < _FEWEST_GENES:
        return
    places = [points[rows] for points, rows in zip(look.places, look.cells, strict=True)]
    pairs = [_fit(*two) for two in pairwise(zip(places, _patterns(look), strict=True))]
    poses = _turned(pairs)
    shifts = {k: off for k, off in _shifted(look, places, pairs).items() if k not in poses}
    for k, pose in poses.items():
        degrees = min(pose.angle, 360 - pose.angle)
        what = f"{'mirrored in x and ' if pose.mirrored else ''}rotated by about {degrees}°"
        message = f"{look.names[k]!r} looks {what} against its neighbours"
        advice = "look at it beside them (isost.pl.slices); mirrored or turned sections must be turned back first"
        yield Finding("warning", look.names[k], "registration", degrees, message, advice)
    for k, off in shifts.items():
        message = f"{look.names[k]!r} lies {off:.2g} of its width beside its neighbours, and fits them better on them"
        advice = "look at it beside them (isost.pl.slices), and register the sections first"
        yield Finding("warning", look.names[k], "registration", off, message, advice)


def _turned(pairs: Sequence[_Pair]) -> dict[int, _Pose]:
    """Sections to blame for the pairs that fit better turned, and how they are turned against a neighbour.

    Where a section fits neither neighbour it is that one; where an end does not fit, the end; else the upper one.
    """
    poses = {k: pair.pose for k, pair in enumerate(pairs) if pair.pose is not None}  # of sections k and k + 1
    blamed = {k + 1: pose for k, pose in poses.items() if k + 1 in poses}
    for k, pose in poses.items():
        if not {k, k + 1} & set(blamed):
            blamed[0 if k == 0 and len(pairs) > 1 else k + 1] = pose
    return blamed


def _shifted(look: Look, places: Sequence[NDArray[np.float64]], pairs: Sequence[_Pair]) -> dict[int, float]:
    """Sections that lie beside the line between the centres of their neighbours, and how far, in widths."""
    centers = np.array([points.mean(0) for points in places])
    variance = np.array([points.var(0).sum() / len(points) for points in places])
    z, last = look.z, len(places) - 1
    found = {}
    for k in range(1, last):
        t = (z[k] - z[k - 1]) / (z[k + 1] - z[k - 1])
        off = np.linalg.norm(centers[k] - (1 - t) * centers[k - 1] - t * centers[k + 1])
        chance = np.sqrt(variance[k] + (1 - t) ** 2 * variance[k - 1] + t**2 * variance[k + 1])
        fits_better = min(pairs[k - 1].shift_gain, pairs[k].shift_gain) > _SHIFT_GAIN
        if off > max(_OFF * look.widths[k], _CHANCE * chance) and fits_better:
            found[k] = float(off / look.widths[k])
    for k, neighbor, pair in ((0, 1, pairs[0]), (last, last - 1, pairs[-1])):
        off = np.linalg.norm(centers[k] - centers[neighbor])
        if off > _OFF_AT_END * look.widths[k] and pair.shift_gain > _GAIN and neighbor not in found:
            found[k] = float(off / look.widths[k])
    return found


def _patterns(look: Look) -> list[NDArray[np.float64]]:
    """Leading components (n, ≤ 5) of the expression of the cells looked at, their mean in each section taken away."""
    centered = [profile - profile.mean(0) for profile in look.profiles]
    n_genes = centered[0].shape[1]
    covariance = sum((values.T @ values for values in centered), np.zeros((n_genes, n_genes)))
    vectors = eigh(covariance, subset_by_index=[max(0, n_genes - _N_COMPS), n_genes - 1])[1]
    return [values @ vectors for values in centered]


def _fit(
    below: tuple[NDArray[np.float64], NDArray[np.float64]], above: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> _Pair:
    (lower, lower_pattern), (upper, upper_pattern) = below, above
    center = upper.mean(0)
    centered = lower - lower.mean(0)
    reach = max(np.linalg.norm(centered, axis=1).max(), np.abs(np.concatenate([lower, upper]) - center).max())
    target = _squares(upper - center, upper_pattern, reach)
    as_given = _likeness(_squares(lower - center, lower_pattern, reach), target)
    likeness = {pose: _likeness(_squares(centered @ pose.matrix().T, lower_pattern, reach), target) for pose in _POSES}
    best = max(likeness, key=lambda pose: sum(likeness[pose]))
    gain = sum(likeness[best]) - max(sum(as_given), sum(likeness[_UPRIGHT]))
    is_turned = gain > _GAIN and likeness[best][1] > _FITS
    return _Pair(best if is_turned else None, sum(likeness[_UPRIGHT]) - sum(as_given))


def _squares(places: NDArray[np.float64], pattern: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Cells in each square, and the sum of their components: (1 + components, squares, squares), blurred."""
    column = ((places / reach + 1) / 2 * _N_BINS).astype(np.intp).clip(0, _N_BINS - 1)
    square = column[:, 0] * _N_BINS + column[:, 1]
    sums = [np.bincount(square, weights, _N_BINS**2) for weights in (None, *pattern.T)]
    blurred: NDArray[np.float64] = gaussian_filter(np.reshape(sums, (-1, _N_BINS, _N_BINS)), (0, 1, 1), mode="constant")
    return blurred


def _likeness(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Cosine of the numbers of cells, and that of the components, over squares."""
    return _cosine(a[0], b[0]), _cosine(a[1:], b[1:])


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    product = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / product) if product > 0 else 0.0
