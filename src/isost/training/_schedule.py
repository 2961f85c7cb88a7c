from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BetaSchedule", "Phase", "PhaseName", "phases"]

PhaseName = Literal["shape", "expression", "joint"]

_ORDER: dict[int, tuple[PhaseName, ...]] = {
    1: ("joint",),
    2: ("shape", "expression"),
    3: ("shape", "expression", "joint"),
    4: ("joint", "shape", "expression", "joint"),
}


@dataclass(frozen=True)
class BetaSchedule:
    """Factor β that the whole loss is multiplied by, falling exponentially.

    β is `start_value` up to and including iteration `start_iteration`, `end_value` from `n_iterations` later on, and
    in between start_value · (end_value / start_value)^((iteration − start_iteration) / n_iterations). Iterations are
    counted from 0 anew in each phase. isoST (doi:10.1101/2025.08.15.670472); optimisers that normalise by the
    gradient's size, as NAdam does, nearly cancel it.

    Attributes
    ----------
    start_value, end_value
        Values before and after, positive.
    start_iteration
        Last iteration with `start_value`.
    n_iterations
        Iterations from one value to the other; 0 changes at once.
    """

    start_value: float = 1.0
    end_value: float = 1.0
    start_iteration: int = 0
    n_iterations: int = 0

    def __post_init__(self) -> None:
        if min(self.start_value, self.end_value) <= 0 or min(self.start_iteration, self.n_iterations) < 0:
            msg = f"beta_start_value and beta_end_value must be positive, the beta iterations not negative, got {self}"
            raise ValueError(msg)

    def __call__(self, iteration: int) -> float:
        """Value of β at an iteration of the current phase, counted from 0."""
        past = iteration - self.start_iteration
        if past <= 0:
            return self.start_value
        if past >= self.n_iterations:
            return self.end_value
        return float(self.start_value * (self.end_value / self.start_value) ** (past / self.n_iterations))


@dataclass(frozen=True)
class Phase:
    """A stretch of training in which the losses keep their weights.

    The weights hold everything but β: α in a joint phase, the warm-up rate in the other two.

    Attributes
    ----------
    name
        Which losses drive: ``"shape"``, ``"expression"`` or both, ``"joint"``.
    epochs
        Passes over all sections.
    shape_weight, expression_weight
        Factors of the two losses; a loss with factor 0 need not be computed.
    """

    name: PhaseName
    epochs: int
    shape_weight: float
    expression_weight: float


def phases(epochs: int | Sequence[int], *, alpha: float = 0.1, warm_up_rate: float = 1.0) -> list[Phase]:
    """Phases of training from the number of epochs in each.

    Parameters
    ----------
    epochs
        One number or entry: a joint phase. Two: shape, expression. Three: shape, expression, joint. Four: joint,
        shape, expression, joint. A phase of 0 epochs is left out.
    alpha
        Weight of the expression loss in joint phases: shape + α · expression.
    warm_up_rate
        Weight of the loss in the shape and expression phases.

    Returns
    -------
    The phases in order.

    Raises
    ------
    ValueError
        If there are more than four entries or none, or one is negative.
    """
    counts = [int(epochs)] if isinstance(epochs, int | np.integer) else [int(count) for count in epochs]
    if len(counts) not in _ORDER or min(counts) < 0:
        msg = (
            f"epochs must be one to four numbers of epochs, none negative, got {epochs!r}; e.g. epochs=(100, 100, 100)"
        )
        raise ValueError(msg)
    weights: dict[PhaseName, tuple[float, float]] = {
        "shape": (warm_up_rate, 0.0),
        "expression": (0.0, warm_up_rate),
        "joint": (1.0, alpha),
    }
    return [
        Phase(name, count, *weights[name]) for name, count in zip(_ORDER[len(counts)], counts, strict=True) if count
    ]
