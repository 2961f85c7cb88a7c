from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Section"]


@dataclass(frozen=True, init=False, eq=False)
class Section:
    """Cells of one section, measured or generated, as plain arrays.

    Parameters
    ----------
    positions
        Positions of the cells, shape (n, 2) or (n, 3), input units; only x and y are kept.
    expression
        Expression of each cell, shape (n, g): measured, or sampled to be as realistic as measured.
    mean
        Expected expression at each cell's place, shape (n, g); by default `expression` itself.
    z
        Depth of the section, input units; only the baselines ask for it.

    Attributes
    ----------
    positions
        Shape (n, 2), float64.
    expression, mean
        Shape (n, g), float64.
    z
        Depth, or None.

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer than two cells, or a value is not finite.
    """

    positions: NDArray[np.float64]  # (n, 2)
    expression: NDArray[np.float64]  # (n, g)
    mean: NDArray[np.float64]  # (n, g)
    z: float | None

    def __init__(
        self,
        positions: ArrayLike,
        expression: ArrayLike,
        mean: ArrayLike | None = None,
        *,
        z: float | None = None,
    ) -> None:
        places, values = np.asarray(positions, dtype=np.float64), np.asarray(expression, dtype=np.float64)
        expected = values if mean is None else np.asarray(mean, dtype=np.float64)
        _check(places, values, expected)
        object.__setattr__(self, "positions", places[:, :2])
        object.__setattr__(self, "expression", values)
        object.__setattr__(self, "mean", expected)
        object.__setattr__(self, "z", z)

    @property
    def n_cells(self) -> int:
        """Number n of cells."""
        return len(self.positions)

    @property
    def n_genes(self) -> int:
        """Number g of genes."""
        return int(self.expression.shape[1])


def _check(places: NDArray, values: NDArray, expected: NDArray) -> None:
    if places.ndim != 2 or places.shape[1] not in (2, 3) or values.ndim != 2:
        msg = f"positions must be (n, 2) or (n, 3) and expression (n, g), got {places.shape} and {values.shape}"
        raise ValueError(msg)
    if len(places) != len(values) or values.shape != expected.shape:
        msg = (
            f"positions {places.shape}, expression {values.shape} and mean {expected.shape} of a section "
            "must have the same cells and genes"
        )
        raise ValueError(msg)
    if len(places) < 2:
        msg = f"a section needs at least two cells to be scored, got {len(places)}"
        raise ValueError(msg)
    for name, array in (("positions", places), ("expression", values), ("mean", expected)):
        if not np.isfinite(array).all():
            msg = f"{name} of a section must be finite; leave such cells out before scoring"
            raise ValueError(msg)
