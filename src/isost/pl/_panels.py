from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from anndata import AnnData

from isost import _keys
from isost.io import named_sections, point_depths, split_sections

from ._style import rounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        Their z, input units, of those cells whose depth is known.
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
        """Mean z, NaN where no depth is known."""
        return float(np.mean(self.depths)) if len(self.depths) else np.nan


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
    for name, adata in _named_sections(source, section_key).items():
        points = _positions(adata, name=name, spatial_key=spatial_key)
        depths, _ = point_depths(adata, z_key=z_key, spatial_key=spatial_key)
        # a section generated at a measured depth is the measured one
        is_measured = _keys.MEASURED in adata.obs and bool(adata.obs[_keys.MEASURED].all())
        of_model = is_generated or _keys.SOURCE_SECTION in adata.obs
        panels.append(Panel(name, adata, points, depths[np.isfinite(depths)], of_model and not is_measured))
    return panels


def _named_sections(source: Sections, section_key: str) -> dict[str, AnnData]:
    if not isinstance(source, AnnData):
        return named_sections(source, section_key=section_key)
    # generated cells may carry their donors' section along: the cut says where they lie
    key = _keys.CUT if _keys.CUT in source.obs else section_key
    is_one = key not in source.obs or (key == section_key and _keys.SOURCE_SECTION in source.obs)
    return {"": source} if is_one else split_sections(source, section_key=key)


def _positions(adata: AnnData, *, name: str, spatial_key: str) -> NDArray[np.float64]:
    if spatial_key not in adata.obsm:
        msg = f"section {name!r} has no obsm[{spatial_key!r}]; there are {sorted(adata.obsm)}, name one by spatial_key="
        raise KeyError(msg)
    return np.asarray(adata.obsm[spatial_key], dtype=np.float64)[:, :2]


def depth_of(panel: Panel, *, largest: float) -> str:
    """Write the panel's depth, ``"z = 50"``, or ``"z = 40 … 60"`` of a tilted cut; empty where none is known."""
    if not len(panel.depths):
        return ""
    low, high = panel.depths.min(), panel.depths.max()
    ends = [panel.depth] if high - low <= 1e-6 * largest else [low, high]
    return "z = " + " … ".join(f"{rounded(end, largest=largest):g}" for end in ends)
