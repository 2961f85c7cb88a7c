from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from ._tissue import density

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._shape import Floats, Shape

__all__ = ["cell_mass", "place_cells"]

_PER_CELL = 16  # places tried for every cell
_ROUNDS = 2  # of relaxation: more would give a crystal, none a random scatter


def cell_mass(shape: Shape, z: float) -> float:
    """Integrate the density over the section at depth z: its relative number of cells."""
    step = shape.radius / 50
    return float(density(shape, _lattice(shape, z, step)).sum() * step**2)


def place_cells(shape: Shape, z: float, n: int, *, rng: np.random.Generator) -> Floats:
    """Place the n cells of the section at depth z, (n, 3): evenly spaced, closer where the density is higher.

    A few rounds of Lloyd's relaxation (Lloyd 1982, Least squares quantization in PCM) from a random start. In two
    dimensions its centres settle to the square root of the density they quantise (Gersho 1979, Asymptotically optimal
    block quantization), hence the squared weights.
    """
    places = _places(shape, z, _PER_CELL * n, rng=rng)
    weight = density(shape, places)
    cells = places[rng.choice(len(places), n, replace=False, p=weight / weight.sum())]
    for _ in range(_ROUNDS):
        _, owner = cKDTree(cells[:, :2]).query(places[:, :2])
        cells = _centroids(places, weight**2, np.asarray(owner), cells)
    astray = ~shape.inside(cells)
    _, nearest = cKDTree(places).query(cells[astray])
    cells[astray] = places[nearest]
    return cells


def _centroids(places: Floats, weight: Floats, owner: NDArray[np.intp], cells: Floats) -> Floats:
    total = np.bincount(owner, weight, len(cells))
    owned = total > 0
    moved = cells.copy()
    for axis in range(2):
        moved[owned, axis] = np.bincount(owner, weight * places[:, axis], len(cells))[owned] / total[owned]
    return moved


def _places(shape: Shape, z: float, n: int, *, rng: np.random.Generator) -> Floats:
    # about n places of the tissue at depth z, one at random in each square of a lattice
    coarse = shape.radius / 50
    area = shape.inside(_lattice(shape, z, coarse)).sum() * coarse**2
    step = np.sqrt(area / n)
    places = _lattice(shape, z, step)
    places[:, :2] += step * (rng.random((len(places), 2)) - 0.5)
    return places[shape.inside(places)]


def _lattice(shape: Shape, z: float, step: float) -> Floats:
    low, high = shape.bounds(z)
    x, y = (np.arange(low[axis], high[axis] + step, step) for axis in range(2))
    xy = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.column_stack([xy, np.full(len(xy), z)])
