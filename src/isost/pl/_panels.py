from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData

from isost import _keys

from ._style import rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Panel", "Sections", "collect", "depth_of"]

Sections: TypeAlias = "AnnData | Sequence[AnnData] | Mapping[str, AnnData]"


@dataclass(frozen=True)
class Panel:
    """One section to draw.

    Attributes
    ----------
    name
        The section's name; for a generated one the cut's.
    adata
        Its cells.
    points
        Their x and y (n, 2), input units.
    depths
        Their z (n,), input units; empty where no depth is known.
    generated
        Whether its cells are generated, not measured.
    """

    name: str
    adata: AnnData
    points: NDArray[np.float64]
    depths: NDArray[np.float64]
    generated: bool

    @property
    def depth(self) -> float:
        """Median z, NaN where no depth is known."""
        return float(np.median(self.depths)) if len(self.depths) else np.nan


def collect(
    source: Sections,
    *,
    section_key: str,
    spatial_key: str,
    z_key: str,
    is_generated: bool = False,
) -> list[Panel]:
    """Make one panel for each section, in the order given."""
    panels = []
    for name, adata in _named_sections(source, section_key):
        points, depths = _positions(adata, name=name, spatial_key=spatial_key, z_key=z_key)
        # a section generated at a measured depth is the measured one
        is_measured = _keys.MEASURED in adata.obs and bool(adata.obs[_keys.MEASURED].all())
        of_model = is_generated or _keys.SOURCE_SECTION in adata.obs
        panels.append(Panel(name, adata, points, depths, of_model and not is_measured))
    return panels


def _named_sections(source: Sections, section_key: str) -> Iterator[tuple[str, AnnData]]:
    if isinstance(source, Mapping):
        yield from source.items()
    elif isinstance(source, AnnData):
        yield from _split(source, section_key)
    else:
        for i, adata in enumerate(source):
            names = adata.obs[section_key].unique() if section_key in adata.obs else [f"section {i}"]
            yield (str(names[0]) if len(names) == 1 else f"section {i}"), adata


def _split(adata: AnnData, section_key: str) -> Iterator[tuple[str, AnnData]]:
    # generated cells may carry their donors' section along: the cut says where they lie
    key = _keys.CUT if _keys.CUT in adata.obs else section_key
    is_one = key not in adata.obs or (key == section_key and _keys.SOURCE_SECTION in adata.obs)
    if is_one:
        yield "", adata
        return
    column = adata.obs[key].astype("category")
    for category in column.cat.categories:
        chosen = (column == category).to_numpy()
        if chosen.any():
            yield str(category), adata[chosen]


def _positions(
    adata: AnnData, *, name: str, spatial_key: str, z_key: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if spatial_key not in adata.obsm:
        msg = f"section {name!r} has no obsm[{spatial_key!r}]; there are {sorted(adata.obsm)}, name one by spatial_key="
        raise KeyError(msg)
    spatial = np.asarray(adata.obsm[spatial_key], dtype=np.float64)
    if spatial.shape[1] > 2:
        return spatial[:, :2], spatial[:, 2]
    if z_key in adata.obs:
        return spatial, pd.to_numeric(adata.obs[z_key]).to_numpy(dtype=np.float64)
    return spatial, np.empty(0)


def depth_of(panel: Panel, *, largest: float) -> str:
    """Write the panel's depth, ``"z = 50"``, or ``"z = 40 … 60"`` of a tilted cut; empty where none is known."""
    if not len(panel.depths):
        return ""
    low, high = panel.depths.min(), panel.depths.max()
    ends = [panel.depth] if high - low <= 1e-6 * largest else [low, high]
    return "z = " + " … ".join(f"{rounded(end, largest=largest):g}" for end in ends)
