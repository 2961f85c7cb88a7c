from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from isost._logging import logger, step
from isost._normalization import EXPRESSION
from isost._settings import settings as session
from isost._untrusted import untrusted
from isost._writing import whole_file
from isost.volume import Accumulator, Grid

from ._experiment import read_json
from ._inference import RECORD, frame_paths
from ._normalization import MINIMUM, SCALE, csv_digest, read_normalization
from ._slices import default_z_scale

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["VolumeProcessor"]

VOLUME, DENSITY, COMPONENTS = "volume.npy", "density.npy", "pc_volume.csv"
_ROWS = 1 << 16  # of a table that are decoded at a time


class VolumeProcessor:
    """Turns the frames of an inference into a volume of components, and that into expression.

    Parameters
    ----------
    data_dir
        Folder with ``min_dic.csv`` and ``scale_dic.csv``.
    result_dir
        Folder of the frames, to which tables of expression are written.
    volume_size
        Extent along x, y and z in the units of the axes, in which x is about 1 wide; for `df_to_volume` numbers of
        voxels, and for `result_to_time_volume` along z the number of frames.
    gene_list
        Names of the genes.
    max_lence
        Voxels along one unit of an axis.

    Attributes
    ----------
    data_dir, result_dir, volume_size, gene_list, max_lence
        As given.
    cube_size
        Edge of a voxel, 1 / max_lence.
    normalization
        What the two files say.

    Raises
    ------
    FileNotFoundError
        If one of them is missing.
    ValueError
        If one is not as it must be, or `volume_size` or `max_lence` is impossible.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        result_dir: str | os.PathLike[str],
        volume_size: Sequence[float],
        gene_list: Sequence[str],
        max_lence: float,
    ) -> None:
        if len(volume_size) != 3 or not all(math.isfinite(size) and size > 0 for size in volume_size):
            msg = f"volume_size must be three positive numbers, got {volume_size!r}"
            raise ValueError(msg)
        if not (math.isfinite(max_lence) and max_lence > 0):
            msg = f"max_lence must be positive, got {max_lence!r}"
            raise ValueError(msg)
        self.data_dir, self.result_dir = Path(data_dir), Path(result_dir)
        self.volume_size, self.gene_list, self.max_lence = tuple(volume_size), list(gene_list), max_lence
        self.cube_size = 1 / max_lence
        self.normalization = read_normalization(data_dir)

    def result_to_volume(
        self, n_features: int, z_scale: float | None = None, swamp: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average the components of all frames' points in voxels of equal size in x, y and z.

        Parameters
        ----------
        n_features
            Components G of the frames.
        z_scale
            What z is divided by; the scale of x and y when None.
        swamp
            Swap x and z: the axes of the volume are then z, y and x.

        Returns
        -------
        Mean of the components, in input units, of each voxel's points (X, Y, Z, G), NaN where there is none; and their
        number (X, Y, Z). Both float64.

        Raises
        ------
        FileNotFoundError
            If there are no frames, or one is missing.
        ValueError
            If a frame does not fit `n_features` or the files of `data_dir`; it is named.
        """
        if z_scale is None and (own := default_z_scale(self.data_dir)) is not None:
            logger.warning(
                "the sections in %s have a scale of z: voxels are of equal size in x, y and z with z_scale=%.9g",
                self.data_dir,
                own,
            )
        if z_scale is not None and not (math.isfinite(z_scale) and z_scale > 0):
            msg = f"z_scale must be positive, got {z_scale!r}"
            raise ValueError(msg)
        divisor: Any = self.normalization.scale[:1] if z_scale is None else float(z_scale)

        def place(points: NDArray[Any], number: int) -> NDArray[Any]:
            points[:, 2] /= divisor
            placed: NDArray[Any] = (points[:, ::-1] if swamp else points) / self.cube_size
            return placed

        return self._averaged(n_features, place, [math.ceil(size / self.cube_size) for size in self.volume_size])

    def result_to_time_volume(
        self, n_features: int, z_scale: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average the components of each frame's points in a layer of its own, one voxel a frame.

        x and y are measured from the smallest ones of all frames, in units of the larger of their two widths.

        Parameters
        ----------
        n_features
            Components G of the frames.
        z_scale
            Without effect, as published.

        Returns
        -------
        As `result_to_volume`; the third axis is the number of the frame.

        Raises
        ------
        FileNotFoundError, ValueError
            As `result_to_volume` does.
        """
        ends = [(xy.min(0), xy.max(0)) for xy in (frame[:, :2] for frame in self._frames(n_features))]
        low = np.min([end[0] for end in ends], axis=0)
        width = float((np.max([end[1] for end in ends], axis=0) - low).max())

        def place(points: NDArray[Any], number: int) -> NDArray[Any]:
            points[:, :2] = (points[:, :2] - low) / width
            points[:, 2] = number
            placed: NDArray[Any] = points / np.array([self.cube_size, self.cube_size, 1.0])
            return placed

        x, y, z = self.volume_size
        shape = [math.ceil(x / self.cube_size), math.ceil(y / self.cube_size), math.ceil(z)]
        return self._averaged(n_features, place, shape)

    def volume_to_df(self, data: NDArray[Any], genelist: Sequence[str] | None = None) -> pd.DataFrame:
        """List the voxels of a volume.

        Parameters
        ----------
        data
            A volume (X, Y, Z, d).
        genelist
            Names of its d values; ``PC1``, ``PC2``, … when None.

        Returns
        -------
        One row for each voxel without NaN: columns x, y and z, the indices of the voxel as floats, then its values.
        """
        volume = _checked_volume(data)
        names = [f"PC{i + 1}" for i in range(volume.shape[-1])] if genelist is None else list(genelist)
        if len(names) != volume.shape[-1]:
            msg = f"the volume has {volume.shape[-1]} values a voxel, and genelist {len(names)} names"
            raise ValueError(msg)
        occupied = ~np.isnan(volume).any(axis=-1)
        index = np.argwhere(occupied).astype(np.float64)
        return pd.DataFrame(np.hstack([index, volume[occupied]]), columns=["x", "y", "z", *names])

    def df_to_volume(self, df: pd.DataFrame) -> NDArray[np.float64]:
        """Put the genes of a table of voxels, such as `pc_to_expression` writes, back into a volume.

        Parameters
        ----------
        df
            Columns x, y and z, indices of voxels, and the genes of `gene_list`. Not changed.

        Returns
        -------
        Shape (X, Y, Z, genes), `volume_size` being numbers of voxels here; NaN where the table has no row.

        Raises
        ------
        ValueError
            If `volume_size` is not whole, or a column is missing or a voxel outside.
        """
        shape = tuple(int(size) for size in self.volume_size)
        if shape != self.volume_size:
            msg = f"df_to_volume takes volume_size as numbers of voxels, which {self.volume_size} are not"
            raise ValueError(msg)
        if missing := [name for name in ["x", "y", "z", *self.gene_list] if name not in df]:
            msg = f"the table lacks {len(missing)} columns, such as {missing[0]!r}"
            raise ValueError(msg)
        index = df[["x", "y", "z"]].to_numpy().astype(np.int64)
        if len(index) and ((index < 0) | (index >= shape)).any():
            msg = f"the table has voxels up to {index.max(0).tolist()}, outside of volume_size={self.volume_size}"
            raise ValueError(msg)
        volume = np.full((*shape, len(self.gene_list)), np.nan)
        volume[tuple(index.T)] = df[self.gene_list].to_numpy()
        return volume

    def pc_to_expression(self, volume: NDArray[Any], pc_model: Any, z_length: float, *, name: str | None = None) -> str:
        """Turn a volume of components into a table of expression, and write it.

        The expression is what ``inverse_transform`` of the PCA gives, in the units that the PCA was fitted in, and
        nothing more: z-scores, where it was fitted to z-scores.

        Parameters
        ----------
        volume
            Components (X, Y, Z, G), input units.
        pc_model
            The PCA: what `convert_pca` returned, or anything with ``inverse_transform``.
        z_length
            Number for the name of the file; the published program's users give `max_lence`.
        name
            Name of the file instead of ``log2_expr_{z_length}_all_pc.parquet``.

        Returns
        -------
        Path of the file, in `result_dir`: float32, columns x, y and z, indices of voxels, and the genes.

        Raises
        ------
        ValueError
            If the PCA has another number of genes than `gene_list`.
        """
        table = self.volume_to_df(volume)
        path = self.result_dir / (name or f"log2_expr_{z_length}_all_pc.parquet")
        if path.exists():
            logger.warning("%s is replaced", path)
        with step("pc_to_expression") as notes:
            _write_expression(table, pc_model, self.gene_list, path)
            notes.append(f"{len(table)} voxels, {len(self.gene_list)} genes in {path}")
        return str(path)

    def save(self, volume: NDArray[Any], count: NDArray[Any]) -> None:
        """Write ``volume.npy``, ``density.npy`` and ``pc_volume.csv`` to `result_dir`.

        Parameters
        ----------
        volume, count
            What `result_to_volume` or `result_to_time_volume` returned.
        """
        for name, array in ((VOLUME, volume), (DENSITY, count)):
            with whole_file(self.result_dir / name) as unfinished:
                np.save(unfinished, array)
        with whole_file(self.result_dir / COMPONENTS) as unfinished:
            self.volume_to_df(volume).to_csv(unfinished)

    def _averaged(
        self, n_features: int, place: Any, shape: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # In units of voxels, and in the precision of the frames until then: as published, so that points on the face
        # between two voxels fall into the same one.
        sums = Accumulator(Grid(np.zeros(3), 1.0, (shape[0], shape[1], shape[2])), n_features)
        for number, frame in enumerate(self._frames(n_features)):
            values = self.normalization.decode(frame[:, EXPRESSION], dims=EXPRESSION)
            sums.add(place(frame[:, :3].copy(), number), values, np.ones(len(frame)))
        voxels = sums.result()
        logger.info("%d voxels occupied; %d points lie outside of the volume", len(voxels.index), sums.n_outside)
        where = tuple(voxels.index.T)
        volume, count = np.full((*shape, n_features), np.nan), np.zeros(shape)
        volume[where], count[where] = voxels.mean, voxels.density
        return volume, count

    def _frames(self, n_features: int) -> Iterator[NDArray[Any]]:
        """Read frames in order, checked."""
        paths = frame_paths(self.result_dir)
        self._check_same_set()
        n_comps = self.normalization.n_comps
        if n_features != n_comps:
            msg = f"n_features is {n_features}, but {self.data_dir / SCALE} has {n_comps} components"
            raise ValueError(msg)
        for path in tqdm(paths, disable=not session.progress, desc="volume", unit="frame"):
            with untrusted(path):
                frame = np.load(path, allow_pickle=False)
            if frame.ndim != 2 or frame.shape[1] != 3 + n_comps or not np.issubdtype(frame.dtype, np.floating):
                msg = f"{path} has shape {frame.shape}, but {self.data_dir / SCALE} asks for (points, {3 + n_comps})"
                raise ValueError(msg)
            yield frame

    def _check_same_set(self) -> None:
        of_frames = read_json(self.result_dir / RECORD).get("normalization", "")
        if of_frames not in ("", csv_digest(self.data_dir)):
            msg = (
                f"{self.data_dir / MINIMUM} and {SCALE} are not those of the sections that the frames in "
                f"{self.result_dir} were carried from"
            )
            raise ValueError(msg)


def _checked_volume(data: ArrayLike) -> NDArray[Any]:
    volume = np.asarray(data)
    if volume.ndim != 4:
        msg = f"a volume has four axes (X, Y, Z, values), got shape {volume.shape}"
        raise ValueError(msg)
    return volume


def _write_expression(table: pd.DataFrame, pc_model: Any, genes: Sequence[str], path: Path) -> None:
    """Decode a table of voxels some rows at a time, and write them as parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["x", "y", "z", *genes]
    schema = pa.schema([(name, pa.float32()) for name in columns])
    with whole_file(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for start in range(0, max(len(table), 1), _ROWS):
            rows = table.iloc[start : start + _ROWS].to_numpy()
            expression = np.asarray(pc_model.inverse_transform(rows[:, 3:])) if len(rows) else np.empty((0, len(genes)))
            if expression.shape[1] != len(genes):
                msg = f"the PCA has {expression.shape[1]} genes, and gene_list {len(genes)}"
                raise ValueError(msg)
            values = np.hstack([rows[:, :3], expression]).astype(np.float32)
            writer.write_table(pa.Table.from_arrays(list(map(pa.array, values.T)), schema=schema))
