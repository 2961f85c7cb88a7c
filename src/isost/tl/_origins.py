from __future__ import annotations

from typing import TYPE_CHECKING

from isost.generation import trace_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isost.model import IsoST

    from ._inputs import Sections

__all__ = ["Carrying", "origins"]

# where each section's cells are at each depth that they are carried to: (depth, section) → (n, 2), state units
Carrying = dict[tuple[int, int], "NDArray"]


def origins(
    sections: Sections, model: IsoST, carrying: Carrying, target: int, gap: int, query: NDArray
) -> tuple[NDArray, NDArray]:
    """Where in the two sections around a gap the tissue at places (n, 2) of one depth comes from, both (n, 2)."""
    below, above = (
        trace_back(query, sections.positions[k], carrying[target, k], share=model.settings.mean_shift)
        if (target, k) in carrying
        else query
        for k in (gap, gap + 1)
    )
    return below, above
