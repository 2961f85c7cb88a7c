from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh

from isost.metrics import Section
from isost.metrics import registration as measured

from ._look import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from isost.metrics import Registration

    from ._look import Look

__all__ = ["registration"]

_N_PIXELS, _STEP = 16, 15  # pixels and degrees: coarse, since only gross errors are looked for
_N_COMPS = 5
_FEWEST_GENES = 10  # with fewer, chance makes patterns alike
_GAIN = 0.2  # by which a section must lie better turned, or an end moved; the tapering fly embryo gains 0.13
_FITS = 0.5  # correlation of expression when turned: below it is chance
_OFF = 0.1  # of the width: how far a section may lie beside the line between its neighbours
_OFF_AT_END = 0.5  # of the width, where there is one neighbour only
_CHANCE = 4  # standard errors of a centre: what few cells may lie beside by themselves
_SHIFT_GAIN = 0.03  # with both neighbours, by being moved


def registration(look: Look) -> Iterator[Finding]:
    """Find sections that are mirrored, rotated or shifted against their neighbours.

    Cells and expression of a section, averaged over coarse squares, are compared with those of the next one as they
    are and in other poses. What is symmetric cannot be told from its mirror image. Number: degrees, for a shift widths
    of the section.
    """
    if look.profiles[0].shape[1] < _FEWEST_GENES:
        return
    places = [points[rows] for points, rows in zip(look.places, look.cells, strict=True)]
    sections = [Section(*section) for section in zip(places, _patterns(look), strict=True)]
    pairs = [measured(*two, n_pixels=_N_PIXELS, step=_STEP, fine_step=None) for two in pairwise(sections)]
    poses = _turned(pairs)
    shifts = {k: off for k, off in _shifted(look, places, pairs).items() if k not in poses}
    for k, pose in poses.items():
        degrees = abs(pose.rotation)
        what = f"{'mirrored in x and ' if pose.mirrored else ''}rotated by about {degrees}°"
        message = f"{look.names[k]!r} looks {what} against its neighbours"
        advice = "look at it beside them (isost.pl.slices); mirrored or turned sections must be turned back first"
        yield Finding("warning", look.names[k], "registration", degrees, message, advice)
    for k, off in shifts.items():
        message = f"{look.names[k]!r} lies {off:.2g} of its width beside its neighbours, and fits them better on them"
        advice = "look at it beside them (isost.pl.slices), and register the sections first"
        yield Finding("warning", look.names[k], "registration", off, message, advice)


def _turned(pairs: Sequence[Registration]) -> dict[int, Registration]:
    """Sections to blame for the pairs that fit better turned, and how they are turned against a neighbour.

    Where a section fits neither neighbour it is that one; where an end does not fit, the end; else the upper one.
    """
    poses = {k: pair for k, pair in enumerate(pairs) if _is_turned(pair)}  # of sections k and k + 1
    blamed = {k + 1: pose for k, pose in poses.items() if k + 1 in poses}
    for k, pose in poses.items():
        if not {k, k + 1} & set(blamed):
            blamed[0 if k == 0 and len(pairs) > 1 else k + 1] = pose
    return blamed


def _is_turned(pair: Registration) -> bool:
    turned = pair.mirrored or abs(pair.rotation) > _STEP
    return turned and pair.gain > _GAIN and pair.best_correlation > _FITS


def _shifted(look: Look, places: Sequence[NDArray[np.float64]], pairs: Sequence[Registration]) -> dict[int, float]:
    """Sections that lie beside the line between the centres of their neighbours, and how far, in widths."""
    centers = np.array([points.mean(0) for points in places])
    variance = np.array([points.var(0).sum() / len(points) for points in places])
    z, last = look.z, len(places) - 1
    found = {}
    for k in range(1, last):
        t = (z[k] - z[k - 1]) / (z[k + 1] - z[k - 1])
        off = np.linalg.norm(centers[k] - (1 - t) * centers[k - 1] - t * centers[k + 1])
        chance = np.sqrt(variance[k] + (1 - t) ** 2 * variance[k - 1] + t**2 * variance[k + 1])
        fits_better = min(pairs[k - 1].gain, pairs[k].gain) > _SHIFT_GAIN
        if off > max(_OFF * look.widths[k], _CHANCE * chance) and fits_better:
            found[k] = float(off / look.widths[k])
    for k, neighbor, pair in ((0, 1, pairs[0]), (last, last - 1, pairs[-1])):
        off = np.linalg.norm(centers[k] - centers[neighbor])
        if off > _OFF_AT_END * look.widths[k] and pair.gain > _GAIN and neighbor not in found:
            found[k] = float(off / look.widths[k])
    return found


def _patterns(look: Look) -> list[NDArray[np.float64]]:
    """Leading components (n, ≤ 5) of the expression of the cells looked at, their mean in each section taken away."""
    centered = [profile - profile.mean(0) for profile in look.profiles]
    n_genes = centered[0].shape[1]
    covariance = sum((values.T @ values for values in centered), np.zeros((n_genes, n_genes)))
    vectors = eigh(covariance, subset_by_index=[max(0, n_genes - _N_COMPS), n_genes - 1])[1]
    return [values @ vectors for values in centered]
