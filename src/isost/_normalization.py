from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Normalization"]


@dataclass(frozen=True)
class Normalization:
    """Affine map between input units and the normalised state, exactly invertible.

    State u = (s, g): position s = (x, y, z) and G principal components g, each ``(value - minimum) / scale``.
    x and y share one scale, the larger width, so that no section is stretched; z has its own, so that the median
    gap between sections is 0.1; each PC is divided by its range.

    Attributes
    ----------
    minimum
        Smallest value of each of the 3 + G dimensions, input units.
    scale
        Divisor of each of the 3 + G dimensions, input units.
    """

    minimum: NDArray[np.float64]  # (3 + G,)
    scale: NDArray[np.float64]  # (3 + G,)

    @property
    def n_comps(self) -> int:
        """Number G of principal components."""
        return len(self.minimum) - 3

    def encode(self, values: ArrayLike, *, dims: slice = slice(None)) -> NDArray[np.float64]:
        """From input units (n, d) to the state; `dims` says which of the 3 + G dimensions the d columns are."""
        return (np.asarray(values, dtype=np.float64) - self.minimum[dims]) / self.scale[dims]

    def decode(self, state: ArrayLike, *, dims: slice = slice(None)) -> NDArray[np.float64]:
        """From the state (n, d) back to input units; the inverse of `encode`."""
        return np.asarray(state, dtype=np.float64) * self.scale[dims] + self.minimum[dims]

    def to_dict(self) -> dict[str, NDArray[np.float64]]:
        """As plain arrays, for `uns`."""
        return {"minimum": self.minimum, "scale": self.scale}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalization:
        """From what `to_dict` gave."""
        return cls(np.asarray(values["minimum"], np.float64), np.asarray(values["scale"], np.float64))


SPACE = slice(0, 3)
DEPTH = slice(2, 3)
EXPRESSION = slice(3, None)
