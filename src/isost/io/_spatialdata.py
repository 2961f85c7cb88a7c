from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._keys import SECTION, SPATIAL
from isost._logging import logger
from isost._untrusted import untrusted

from ._image import volume_image
from ._split import split_sections
from ._stored import check_zarr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from spatialdata import SpatialData

# spatialdata takes seconds to import, so it is only where it is needed

__all__ = ["is_spatialdata_store", "read_spatialdata", "sections_of", "to_spatialdata"]

_ATTRS = "spatialdata_attrs"  # uns of a table: which elements it annotates, and which columns say so
_REGION, _INSTANCE = "spatialdata_region", "spatialdata_instance"


def to_spatialdata(
    volume: AnnData,
    sections: AnnData | Mapping[str, AnnData] | None = None,
    *,
    section_key: str = SECTION,
    channels: str | Sequence[str] | None = None,
    fill: float = 0.0,
) -> SpatialData:
    """Bring a volume, and the cells of sections in it, into one SpatialData.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returned. A lazy one stays lazy: its genes are decoded when the image is
        read or written.
    sections
        A stack, generated sections, or a dict of these by name, with x, y and z in ``obsm["spatial"]``.
    section_key
        Column of `obs` by which one AnnData is split into sections; ``"cut"`` for generated ones.
    channels
        Genes, or numeric columns of `obs`, to make channels of; by default all genes.
    fill
        Value outside the tissue.

    Returns
    -------
    A SpatialData in which the coordinate system ``"global"`` is that of the input, in its unit:

    images["volume"]
        The channels by name, (c, z, y, x), float32, with the scale and translation from voxels to ``"global"``.
    points["<section>_cells"]
        Cells of each section: x, y, z. What SpatialData does not allow in a name becomes ``_``.
    tables["<section>"]
        The section itself, a copy, whose rows annotate these points.

    Raises
    ------
    KeyError
        If this is no volume, a channel is not there, or cells have no positions.
    ValueError
        If there is no channel or one is not numeric, genes share a name, positions have no z, or two sections have the
        same name as SpatialData writes it.

    Examples
    --------
    >>> sdata = isost.io.to_spatialdata(volume, stack)
    >>> sdata.write("organ.zarr")
    """
    from spatialdata import SpatialData
    from spatialdata.models import Image3DModel
    from spatialdata.transformations import Scale, Translation
    from spatialdata.transformations import Sequence as InTurn

    if isinstance(sections, AnnData):
        sections = split_sections(sections, section_key=section_key)
    image, grid, names = volume_image(volume, channels, fill=fill)
    axes = ("x", "y", "z")
    from_voxels = InTurn([Scale([grid.voxel_size] * 3, axes), Translation(grid.origin, axes)])
    placed = Image3DModel.parse(
        image, dims=("c", "z", "y", "x"), c_coords=names, transformations={"global": from_voxels}
    )
    named = _allowed_names(sections or {})
    return SpatialData(
        images={"volume": placed},
        points={_points_name(name): _cells(name, section) for name, section in named.items()},
        tables={name: _table(section, _points_name(name)) for name, section in named.items()},
    )


def _allowed_names(sections: Mapping[str, AnnData]) -> dict[str, AnnData]:
    """Name sections as SpatialData allows: letters, digits and _ . - alone, and told apart without their case."""
    allowed = {name: _allowed(name) for name in map(str, sections)}
    elements = ["volume", *allowed.values(), *(_points_name(name) for name in allowed.values())]
    if len({name.lower() for name in elements}) < len(elements):
        msg = (
            f"two of the sections {list(sections)}, their cells or the volume have the same name in SpatialData, which "
            "has letters, digits and _ . - alone and no difference of case; rename one"
        )
        raise ValueError(msg)
    if changed := {old: new for old, new in allowed.items() if old != new}:
        logger.warning("sections get names of letters, digits and _ . - alone, as SpatialData asks for: %s", changed)
    return dict(zip(allowed.values(), sections.values(), strict=True))


def _allowed(name: str) -> str:
    name = re.sub("^__+", "_", re.sub(r"[^\w.-]", "_", name))
    return "section" if name in ("", ".", "..") else name


def _points_name(section: str) -> str:
    return f"{section}_cells"


def _cells(name: str, section: AnnData) -> Any:
    from spatialdata.models import PointsModel
    from spatialdata.transformations import Identity

    if SPATIAL not in section.obsm or section.obsm[SPATIAL].shape[1] != 3:
        msg = (
            f"section {name!r} has no x, y and z in obsm[{SPATIAL!r}]; pass the stack that isost.pp.slice_stack makes "
            "of your sections"
        )
        raise ValueError(msg)
    places = pd.DataFrame(np.asarray(section.obsm[SPATIAL], dtype=np.float64), columns=["x", "y", "z"])
    return PointsModel.parse(places, transformations={"global": Identity()})


def _table(section: AnnData, points: str) -> AnnData:
    from spatialdata import sanitize_table
    from spatialdata.models import TableModel

    table = section.copy()
    sanitize_table(table)  # SpatialData allows fewer names of columns than AnnData
    table.obs, table.var = _plain_text(table.obs), _plain_text(table.var)
    table.obs[_REGION] = pd.Categorical([points] * table.n_obs)
    table.obs[_INSTANCE] = np.arange(table.n_obs)
    parsed: AnnData = TableModel.parse(table, region=points, region_key=_REGION, instance_key=_INSTANCE)
    return parsed


def _plain_text(table: pd.DataFrame) -> pd.DataFrame:
    """Keep text as Python's own: as read from a file of pandas 3, anndata 0.12 would not have SpatialData write it."""
    text = {name: object for name, column in table.items() if isinstance(column.dtype, pd.StringDtype)}
    return table.astype(text).set_index(table.index.astype(object))


def is_spatialdata_store(path: Path) -> bool:
    """Whether the folder at `path` holds a SpatialData."""
    import zarr

    with untrusted(path):
        return path.is_dir() and _ATTRS in zarr.open_group(path, mode="r").attrs


def read_spatialdata(path: Path) -> SpatialData:
    """Read a SpatialData from its folder; images stay there until they are used."""
    import spatialdata
    import zarr

    with untrusted(path):
        root: Any = zarr.open_group(path, mode="r")
        check_zarr(path, root, unread=("images", "labels", "points"))
        for name in root.get("tables", ()):  # read by what it says itself, which need not be what the root says of it
            table = path / "tables" / name
            check_zarr(table, zarr.open_group(table, mode="r"), can_be_lazy=False)
        return spatialdata.read_zarr(path)


def sections_of(sdata: Any, *, section_key: str, coordinate_system: str) -> dict[str, AnnData]:
    """Sections of a SpatialData: its tables or, where there is one, the parts of it, at their registered places."""
    tables = {name: _placed(name, table, sdata, coordinate_system) for name, table in sdata.tables.items()}
    if len(tables) == 1:
        return split_sections(*tables.values(), section_key=section_key)
    return tables


def _placed(name: str, table: AnnData, sdata: Any, coordinate_system: str) -> AnnData:
    """Copy a table, with its cells' registered places, as an AnnData that knows nothing of SpatialData."""
    section = table.copy()
    attrs = section.uns.pop(_ATTRS, None)
    if attrs is None:
        if SPATIAL not in section.obsm:
            msg = f"table {name!r} annotates no element and has no obsm[{SPATIAL!r}], so its cells have no places"
            raise KeyError(msg)
        return section
    with untrusted(sdata.path) if sdata.path else nullcontext():  # points and labels may still be in their files
        section.obsm[SPATIAL] = _places(section.obs, attrs, sdata, coordinate_system)
    section.obs = section.obs.drop(columns=list({_REGION, _INSTANCE} & set(section.obs)))
    return section


def _places(obs: pd.DataFrame, attrs: Mapping[str, Any], sdata: Any, coordinate_system: str) -> NDArray:
    """Find the registered places (n, 2 or 3) of the cells of a table."""
    from spatialdata import get_centroids

    known = sdata.coordinate_systems
    if coordinate_system not in known:
        msg = f"there is no coordinate system {coordinate_system!r}; pass coordinate_system= (it has {known})"
        raise KeyError(msg)
    regions = obs[attrs["region_key"]]
    places = pd.DataFrame(index=pd.RangeIndex(len(obs)), columns=["x", "y", "z"], dtype=np.float64)
    for region in regions.unique():
        rows = np.flatnonzero(regions == region)
        centroids = get_centroids(sdata[region], coordinate_system=coordinate_system).compute()
        found = centroids.reindex(obs[attrs["instance_key"]].iloc[rows])
        places.iloc[rows] = found.reindex(columns=places.columns).to_numpy()
    return places.dropna(axis=1, how="all").to_numpy()
