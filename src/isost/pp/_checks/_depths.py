from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._look import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._look import Look

__all__ = ["gaps", "order", "units"]

_FAR = 300  # spacings of cells: a gap of this many lets no pattern be followed
_NEAR = 0.01  # of the spacing of cells: sections so thin would hold the same cells
_WIDE = 4  # times the median of the other gaps
_NARROW = 0.1


def units(look: Look) -> Iterator[Finding]:
    """Find z in another unit than x and y. Number: median gap, in mean spacings of cells inside sections."""
    spacing = float(np.median([width / np.sqrt(len(p)) for width, p in zip(look.widths, look.places, strict=True)]))
    width, gap = float(np.median(look.widths)), float(np.median(np.diff(look.z)))
    found = (
        f"the median gap in z is {gap:g}, the sections are {width:.4g} wide and their cells about {spacing:.3g} apart"
    )
    advice = "look whether z is in the same unit as x and y; pass z= in that unit otherwise"
    if gap < _NEAR * spacing:
        yield Finding("warning", "", "units", gap / spacing, f"{found}: z looks too small", advice)
    if gap > _FAR * spacing or gap > width:
        yield Finding("warning", "", "units", gap / spacing, f"{found}: z looks too large", advice)


def gaps(look: Look) -> Iterator[Finding]:
    """Find where a section is missing or given twice. Number: the gap below it, by the median of the others."""
    every = np.diff(look.z)
    for k, gap in enumerate(every):
        others = np.delete(every, k)
        ratio = gap / np.median(others) if len(others) else 1.0
        low, high = look.names[k], look.names[k + 1]
        if ratio > _WIDE:
            message = f"the gap between {low!r} and {high!r} is {gap:g}, {ratio:.3g} times the median of the others"
            advice = "look whether a section is missing or z is mistaken; far from both sections little is known"
            yield Finding("warning", high, "gaps", ratio, message, advice)
        if ratio < _NARROW:
            message = f"{low!r} and {high!r} are only {gap:g} apart, {ratio:.2g} times the median of the other gaps"
            advice = "look whether they are one section given twice, or z is mistaken; leave one out or mend z"
            yield Finding("warning", high, "gaps", ratio, message, advice)


def order(look: Look) -> Iterator[Finding]:
    """Find sections not given in the order of z. Number: pairs, one given after the other, that go the other way."""
    steps = np.sign(np.diff(look.given))
    against = int(min((steps < 0).sum(), (steps > 0).sum()))
    if against:
        message = f"the sections were not given in the order of z: they are taken as {', '.join(look.names)}"
        yield Finding("note", "", "order", against, message, "look whether each depth belongs to its section")
