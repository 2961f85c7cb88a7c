from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from isost._checks import check_at_least
from isost._keys import SECTION
from isost._logging import logger, step
from isost.metrics import Section, registration

from ._matrix import join_expression, read_expression
from ._pca import GenePCA
from ._sections import as_sections, positions, section_depths, shared_genes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from isost.metrics import Registration

__all__ = ["check_registration"]

_N_COMPS = 10
# Registered sections gain at most 0.01 (MERFISH hypothalamus), 0.06 (synovium), 0.07 (synthetic organ, whose layers
# turn) and, where the tissue narrows to a tip, 0.13 (fly embryo); a shift by a fifth of the width brings 0.3 and more.
_GAIN, _LARGE_GAIN = 0.05, 0.15
_REGISTERED = "registered"
_UNLIKE = 0.3  # correlation that chance reaches in sections with nothing in common


def check_registration(
    adatas: Sequence[AnnData] | Mapping[str, AnnData] | AnnData,
    *,
    spatial_key: str = "spatial",
    z_key: str = "z",
    z: Sequence[float] | Mapping[str, float] | None = None,
    section_key: str = SECTION,
    layer: str | None = None,
    genes: Sequence[str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how well neighbouring sections are registered to each other.

    Each section is laid on the one below it, as it is and in all rotations, shifts and mirrored, and compared by its
    outline and by the pattern of the first 10 principal components. Nothing is moved: isost takes sections as
    registered, and PASTE, moscot, STalign and spateo register them.

    Parameters
    ----------
    adatas, spatial_key, z_key, z, section_key, layer, genes, seed
        As those of :func:`slice_stack`.

    Returns
    -------
    A row for each pair of neighbours, named ``lower`` and ``upper``, in z order:

    ``gap``
        Distance in z, input units.
    ``overlap``, ``correlation``
        Of the outlines, and of the pattern, as they are (:class:`isost.metrics.Registration`).
    ``gain``
        What the best rigid transformation of the upper section would add to the mean of both.
    ``shift_x``, ``shift_y``, ``rotation``, ``mirrored``
        That transformation: of the section's centre, input units; about its centre, degrees from x towards y; and
        whether x is mirrored before.
    ``verdict``
        ``"registered"`` where the gain is below 0.05; ``"not registered: …"`` where it is above 0.15; in between, or if
        the section would lie better mirrored, ``"doubtful: …"``; and ``"unlike: …"`` where the two have too little in
        common to tell.

    Raises
    ------
    TypeError, KeyError, ValueError
        As those of :func:`slice_stack`.

    Examples
    --------
    >>> isost.pp.check_registration(sections)["verdict"]
    """
    check_at_least(0, seed=seed)
    sections = as_sections(adatas, section_key=section_key)
    points = {name: positions(name, section, spatial_key=spatial_key) for name, section in sections.items()}
    depths = section_depths(sections, z=z, z_key=z_key, spatial_key=spatial_key)
    order = sorted(depths, key=depths.__getitem__)
    var_names = shared_genes(sections, genes=genes)
    with step("check_registration") as notes:
        expression = {name: read_expression(name, sections[name], var_names, layer=layer) for name in order}
        pca = GenePCA.fit(join_expression(list(expression.values())), n_comps=_N_COMPS, seed=seed)
        drawn = {name: Section(points[name], pca.scores(expression[name])) for name in order}
        rows = []
        for lower, upper in pairwise(order):
            found = registration(drawn[lower], drawn[upper])
            verdict = _verdict(found)
            if verdict != _REGISTERED:
                logger.warning("sections %r and %r are %s", lower, upper, verdict)
            rows.append(
                {
                    "gap": depths[upper] - depths[lower],
                    "overlap": found.overlap,
                    "correlation": found.correlation,
                    "gain": found.gain,
                    "shift_x": found.shift[0],
                    "shift_y": found.shift[1],
                    "rotation": found.rotation,
                    "mirrored": found.mirrored,
                    "verdict": verdict,
                }
            )
        table = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(pairwise(order), names=["lower", "upper"]))
        notes.append(f"{(table['verdict'] == _REGISTERED).sum()} of {len(table)} pairs registered")
    return table


def _verdict(found: Registration) -> str:
    if found.best_correlation < _UNLIKE:
        return "unlike: they share too little of a pattern to tell; look at them side by side"
    if found.gain < _GAIN and not found.mirrored:
        return _REGISTERED
    moves = ["mirrored in x"] * found.mirrored
    moves += [f"turned by {found.rotation}°"] * (found.rotation != 0)
    moves += [f"shifted by ({found.shift[0]:.3g}, {found.shift[1]:.3g})"] * bool(np.any(found.shift))
    better = f"the upper one would lie better {' and '.join(moves)}"
    if found.gain < _LARGE_GAIN:
        return f"doubtful: {better}; look at them side by side"
    return f"not registered: {better}; register them first, by PASTE, moscot, STalign or spateo"
