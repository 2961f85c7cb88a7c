from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from isost import _keys as keys
from isost._normalization import DEPTH, SPACE
from isost._settings import settings
from isost.field import Lattice, hilbert_order
from isost.generation import carry_sections, locate, runs_of_gaps
from isost.volume import Accumulator, fill_pinholes, spread_in_layer

from ._labels import categorical_columns, probable_labels
from ._origins import Carrying, origins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isost.field import Estimate
    from isost.model import IsoST
    from isost.volume import Grid

    from ._inputs import Sections

__all__ = ["Slabs"]

_BLOCK = 32_768  # voxels whose expression is estimated at a time: bounds memory
_NODES_A_WINDOW = 4  # at which a section is estimated, along the radius of the window it is smoothed over


class Slabs(Sequence[AnnData]):
    """A volume in slabs: the voxels of all layers in a run of consecutive gaps.

    A slab is made when it is asked for, from the sections around its own gaps and nothing else, so slabs can be made
    in any order and in different processes. One after another they are the volume.

    Parameters
    ----------
    model
        The trained model.
    stack
        The stack, for its labels.
    sections
        The stack's arrays.
    grid
        All voxels.
    seed
        Seed of the noise.
    """

    def __init__(self, model: IsoST, stack: AnnData, sections: Sections, grid: Grid, *, seed: int) -> None:
        self._model, self._stack, self._sections, self._grid, self._seed = model, stack, sections, grid, seed
        view = sections.stack
        # the centre of the last layer may lie beyond the last section
        self._depths = np.minimum(grid.layer_depths(), view.z[-1])
        self._targets = view.normalization.encode(self._depths[:, None], dims=DEPTH)[:, 0]
        corner = view.normalization.encode(grid.centers([[0, 0, 0]]), dims=SPACE)[0, :2]
        # the voxels' own columns
        self._lattice = Lattice(corner, grid.voxel_size / float(view.normalization.scale[0]))
        self._expectation = sections.expectation(model)
        self._located = [locate(view.depths, float(target)) for target in self._targets]
        gap_of = np.array([place.gap for place in self._located])
        n_layers = dict(zip(*np.unique(gap_of, return_counts=True), strict=True))
        # points times layers: what bounds the voxels bounds the points that walk, too
        sizes = {int(gap): int(n * view.sizes[gap : gap + 2].max()) for gap, n in n_layers.items()}
        self._layers = [np.flatnonzero(np.isin(gap_of, gaps)) for gaps in runs_of_gaps(sizes)]

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, i: Any) -> Any:
        """Slab `i`: `obs` and `obsm` of its rows of the volume, see `isost.tl.reconstruct`."""
        layers = self._layers[i]
        index, density, carrying = self._density(layers)
        centers = self._grid.centers(index)
        components, uncertainty = self._expected(layers, index, centers, carrying)
        z = self._sections.stack.z
        distance = np.abs(self._grid.layer_depths()[:, None] - z).min(1)
        # by the grid's own rule, so that a section on the face between two layers lies in one of them
        measured_layers = self._grid.index(np.column_stack([np.zeros((len(z), 2)), z]))[:, 2]
        obs = pd.DataFrame(
            {
                keys.DENSITY: density,
                keys.MEASURED: np.isin(index[:, 2], measured_layers),
                keys.SECTION_DISTANCE: distance[index[:, 2]],
                keys.UNCERTAINTY: uncertainty,
            },
            index=self._names(index),
        )
        places = np.column_stack([centers[:, :2], self._depths[index[:, 2]]])
        labels = probable_labels(self._stack, self._sections, places).set_index(obs.index)
        return AnnData(
            obs=pd.concat([obs, labels], axis=1),
            obsm={keys.SPATIAL: centers, keys.VOXEL: index, keys.X_PCA: components},
        )

    def _names(self, index: NDArray[np.int64]) -> NDArray[np.object_]:
        """Names of voxels (n,), joined from those of their places along each axis: much faster than one by one."""
        x, y, z = (np.array([f"_{i}" for i in range(n)], dtype=object) for n in self._grid.shape)
        names: NDArray[np.object_] = "voxel" + x[index[:, 0]] + y[index[:, 1]] + z[index[:, 2]]
        return names

    def fingerprint(self) -> str:
        """Digest of everything that the slabs depend on: model, stack, grid and seed."""
        model, view = self._model, self._sections.stack
        grid = self._grid.to_dict()
        versions = [version(name) for name in ("isost", "anndata", "pandas")]  # the latter two say how names are kept
        how = (versions, settings.precision, self._seed, model.settings, model.genes, view.names)
        digest = hashlib.sha256(repr(how).encode())
        weights = [value.cpu().numpy() for drift in model.drifts.values() for value in drift.state_dict().values()]
        estimate = (model.loadings, model.component_variance, model.cell_variance)
        own = (view.z, view.sizes, view.gene_mean, view.gene_scale, *view.normalization.to_dict().values(), view.state)
        for array in (*weights, *estimate, *own, grid["origin"], grid["voxel_size"], grid["shape"]):
            digest.update(np.ascontiguousarray(array).data)
        for name in categorical_columns(self._stack):
            digest.update(pd.util.hash_pandas_object(self._stack.obs[name], index=False).to_numpy().data)
        return digest.hexdigest()

    def _density(self, layers: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.float64], Carrying]:
        """Find the voxels of the tissue, the cells each is expected to hold and, if expression moves, where they are.

        Where they are is told by the number of the layer.
        """
        model, grid, view = self._model, self._grid, self._sections.stack
        accumulator = Accumulator(grid, 0)
        carrying: Carrying = {}
        low, high = grid.centers([np.zeros(3), np.array(grid.shape) - 1])
        for carried in carry_sections(
            model, self._sections.states, view.depths, self._targets[layers], seed=self._seed, parts="shape"
        ):
            layer = int(layers[carried.target])
            if model.settings.mean_shift:
                carrying[layer, carried.section] = carried.state[:, :2].copy()
            points = view.normalization.decode(carried.state, dims=SPACE)
            # cells that stray beyond all measured ones count at the edge of the grid, so that none is lost
            points[:, :2] = points[:, :2].clip(low[:2], high[:2])
            points[:, 2] = grid.layer_depths()[layer]
            spread, shares = spread_in_layer(points, np.full(len(points), carried.weight), grid)
            accumulator.add(spread, np.empty((len(spread), 0)), shares)
        voxels = accumulator.result()
        return *fill_pinholes(voxels.index, voxels.density, grid), carrying

    def _expected(
        self, layers: NDArray[np.intp], index: NDArray[np.int64], centers: NDArray[np.float64], carrying: Carrying
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Estimate the expected components of the voxels (n, C), and their uncertainty (n,)."""
        model, view = self._model, self._sections.stack
        places = view.normalization.encode(centers, dims=SPACE)[:, :2]
        components = np.empty((len(centers), model.loadings.shape[1]), dtype=np.float32)
        uncertainty = np.empty(len(centers))
        total = np.where(model.component_variance > 0, model.component_variance, 1.0)
        for gap, own in groupby(layers, lambda layer: self._located[layer].gap):
            within = list(own)
            first, last = np.searchsorted(index[:, 2], [within[0], within[-1] + 1])  # rows come in the order of z
            layer_of = index[first:last, 2]
            came_from = self._came_from(gap, layer_of, places[first:last], carrying)
            # voxels above one another and beside one another, whose estimates have much in common
            order = hilbert_order(places[first:last])
            for block in (order[start : start + _BLOCK] for start in range(0, len(order), _BLOCK)):
                lower, upper = (
                    self._at_section(k, part[block], n_layers=len(within))
                    for k, part in zip((gap, gap + 1), came_from, strict=True)
                )
                for layer in within:
                    here = np.flatnonzero(layer_of[block] == layer)
                    fraction = self._located[layer].fraction
                    expected = self._expectation.between(gap, fraction, lower[here], upper[here])
                    rows = first + block[here]
                    components[rows] = expected.mean
                    uncertainty[rows] = np.sqrt((expected.variance / total).mean(1))
        return components, uncertainty

    def _came_from(
        self, gap: int, layer_of: NDArray[np.int64], places: NDArray[np.float64], carrying: Carrying
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find where in the two sections of a gap the tissue of its voxels, by layer, at places (n, 2) comes from."""
        if not self._model.settings.mean_shift:
            return places, places
        below, above = np.empty_like(places), np.empty_like(places)
        for layer in np.unique(layer_of):
            rows = slice(*np.searchsorted(layer_of, [layer, layer + 1]))
            below[rows], above[rows] = origins(self._sections, self._model, carrying, int(layer), gap, places[rows])
        return below, above

    def _at_section(self, k: int, place: NDArray[np.float64], *, n_layers: int) -> Estimate:
        """Estimate section k at places (n, 2) of it, state units, where the voxels of so many layers come from."""
        exact = partial(self._expectation.at_section, k)
        if not self._model.settings.mean_shift:  # all places are nodes
            return self._lattice.interpolate(exact, place)
        window = max(self._expectation.window(k), 1e-3 * self._lattice.pitch)  # cells may share one place
        times = int(np.ceil(_NODES_A_WINDOW * self._lattice.pitch / window))
        if times**2 >= n_layers:  # no fewer nodes than voxels
            return exact(place)
        return self._lattice.divided(times).interpolate(exact, place)
