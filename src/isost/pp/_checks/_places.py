from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from ._look import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ._look import Look

__all__ = ["duplicates", "numbers", "outliers", "scale"]

_MANY_DUPLICATES = 0.01  # of a section's cells
_STRAY = 10.0  # times the typical distance to the third nearest cell
_EDGE = 0.01  # of the cells, at either end of x and y: those that are looked at as strays
_UNEVEN = 4.0  # times as many cells, or as few
_OTHER_SCALE = 3.0  # times as wide, or as narrow


def duplicates(look: Look) -> Iterator[Finding]:
    """Find cells on top of each other. Number: their share."""
    for name, places in zip(look.names, look.places, strict=True):
        # one complex number a place sorts far faster than rows do
        share = 1 - len(np.unique(places[:, 0] + 1j * places[:, 1])) / len(places)
        if share > 0:
            yield Finding(
                "warning" if share > _MANY_DUPLICATES else "note",
                name,
                "duplicates",
                share,
                f"{share:.2%} of the cells of {name!r} lie exactly where another one does",
                "look whether cells were read twice or positions were rounded; drop the copies",
            )


def outliers(look: Look) -> Iterator[Finding]:
    """Find cells far from the tissue. Number: how many.

    Only cells at the edges of x and y are looked at: those further in do not stretch the section.
    """
    for name, places in zip(look.names, look.places, strict=True):
        low, high = np.quantile(places, [_EDGE, 1 - _EDGE], axis=0)
        at_edge = ((places < low) | (places > high)).any(1)
        tree = cKDTree(places)
        far = tree.query(places[at_edge], [4])[0][:, 0]
        typical = np.median(tree.query(places[_some(len(places), look.seed)], [4])[0])
        stray = int((far > _STRAY * max(typical, np.ptp(places, axis=0).max() / len(places))).sum())
        if stray:
            yield Finding(
                "warning",
                name,
                "outliers",
                stray,
                f"{stray} cells of {name!r} lie more than {_STRAY:g} times further from their neighbours than is usual",
                "drop cells off the tissue: they stretch the scale of x and y",
            )


def _some(n: int, seed: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).permutation(n)[:1000]


def numbers(look: Look) -> Iterator[Finding]:
    """Find sections of far more or fewer cells than those around. Number: how many times as many."""
    sizes = np.array([len(places) for places in look.places], dtype=np.float64)
    for k, ratio in enumerate(_beside_others(sizes)):
        if not 1 / _UNEVEN < ratio < _UNEVEN:
            yield Finding(
                "warning",
                look.names[k],
                "numbers",
                ratio,
                f"{look.names[k]!r} has {len(look.places[k])} cells, {ratio:.2g} times as many as the nearest like it",
                "look whether it was cut and filtered as the others were: the volume's density follows these numbers",
            )


def scale(look: Look) -> Iterator[Finding]:
    """Find sections with x and y in another unit than those around. Number: how many times as wide it is."""
    for k, ratio in enumerate(_beside_others(look.widths)):
        if not 1 / _OTHER_SCALE < ratio < _OTHER_SCALE:
            yield Finding(
                "warning",
                look.names[k],
                "scale",
                ratio,
                f"{look.names[k]!r} is {look.widths[k]:.4g} wide, {ratio:.2g} times as much as the nearest like it",
                "look whether its x and y are in the unit of the others, and whether it was registered",
            )


def _beside_others(values: NDArray[np.float64]) -> Sequence[float]:
    """How many times larger each value is than that of the two on either side which is most like it."""
    logs = np.log(values)
    ratios = []
    for k, own in enumerate(logs):
        others = np.delete(logs[max(0, k - 2) : k + 3], min(k, 2))
        ratios.append(float(np.exp((own - others)[np.abs(own - others).argmin()])))
    return ratios
