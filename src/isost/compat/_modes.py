from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from isost.nn import Drift
from isost.training import TrajectoryObjective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from isost.training import Phase, TrajectorySettings, WeightGroup

__all__ = ["HeldDrift", "Mode", "PublishedObjective", "as_parts", "split_in_order"]

Mode = Literal["joint", "shape", "coo", "expression", "seq"]
Parts = Literal["both", "shape", "expression"]

_PARTS: dict[str, Parts] = {
    "joint": "both",
    "shape": "shape",
    "coo": "shape",
    "expression": "expression",
    "seq": "expression",
}


def as_parts(mode: str) -> Parts:
    """Which networks a published `mode` lets speak."""
    if mode not in _PARTS:
        msg = f"mode is {mode!r}; it must be one of {list(get_args(Mode))}"
        raise ValueError(msg)
    return _PARTS[mode]


def split_in_order(n: int, batch_num: int) -> list[slice]:
    """Rows of the parts that `batch_num` splits a section of n points into, in file order, as published."""
    size = round(n / batch_num)
    edges = [part * size for part in range(batch_num)] + [n]
    return [slice(start, stop) for start, stop in pairwise(edges)]


class HeldDrift(Drift):
    """A drift, sharing its networks, of which one may be held at zero."""

    def __init__(self, drift: Drift, parts: Parts) -> None:
        nn.Module.__init__(self)
        self.n_comps, self.n_neighbors, self.planar = drift.n_comps, drift.n_neighbors, drift.planar
        self.shape, self.expression = drift.shape, drift.expression
        self.parts = parts

    def forward(
        self,
        state: Tensor,
        *,
        sizes: Sequence[int] | None = None,
        table: Tensor | None = None,
        parts: Parts = "both",
    ) -> Tensor:
        """Drift (n, 3 + G), see `isost.nn.Drift`, of the networks that speak."""
        return super().forward(state, sizes=sizes, table=table, parts=self.parts if parts == "both" else parts)


class PublishedObjective:
    """The published objective over groups of sections and parts of each, trained one after another.

    Parameters
    ----------
    groups
        For each group the state (n_k, 3 + G) of its sections, in the order of depth, up or down.
    batch_num
        Parts that each section is split into, in file order.
    parts
        Networks that are trained.
    settings
        Of the objective.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Tensor]],
        *,
        batch_num: int,
        parts: Parts,
        settings: TrajectorySettings,
    ) -> None:
        self.parts = parts
        self.steps: list[TrajectoryObjective] = []
        for group in groups:
            slices = [split_in_order(len(section), batch_num) for section in group]
            for batch in range(batch_num):
                sections = [section[rows[batch]] for section, rows in zip(group, slices, strict=True)]
                self.steps.append(_objective(sections, settings))

    def phases(self, epochs: int | Sequence[int]) -> list[Phase]:
        """Phases of training, without the loss that nothing trained can change, and without phases of it alone."""
        found = self.steps[0].phases(epochs)
        if self.parts == "shape":
            found = [dataclasses.replace(phase, expression_weight=0.0) for phase in found]
        if self.parts == "expression":
            found = [dataclasses.replace(phase, shape_weight=0.0) for phase in found]
        return [phase for phase in found if phase.shape_weight or phase.expression_weight]

    def batches(self, *, generator: torch.Generator | None = None) -> list[TrajectoryObjective]:
        """List the steps of one epoch: every part of every group, in order."""
        return self.steps

    def in_gap(self, gap: int, rows: TrajectoryObjective) -> TrajectoryObjective:
        """Make the step that sees the two sections around one gap alone."""
        return _objective(rows.sections[gap : gap + 2], rows.settings)

    def weight_groups(self, forward: Drift, backward: Drift | None) -> list[WeightGroup]:
        """Weights to train: all at one learning rate."""
        return self.steps[0].weight_groups(forward, backward)

    def loss(
        self,
        forward: Drift,
        backward: Drift | None,
        *,
        iteration: int,
        phase: Phase,
        noise_seed: int,
        rows: Any = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one step, `rows` being the one of `batches` to make."""
        step: TrajectoryObjective = rows
        return step.loss(forward, backward, iteration=iteration, phase=phase, noise_seed=noise_seed)


def _objective(sections: Sequence[Tensor], settings: TrajectorySettings) -> TrajectoryObjective:
    depths = torch.stack([section[:, 2].mean(dtype=torch.float64) for section in sections])
    return TrajectoryObjective(sections, depths, settings=settings)
