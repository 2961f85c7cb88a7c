from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from ._schedule import Phase, phases
from ._trajectory import spatial_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from isost.nn import Drift

    from ._paths import Paths

__all__ = ["BridgeObjective", "initialize_drift"]

_GAIN = 2.0  # of standardised inputs: spreads the tanh units over the tissue, so that they can resolve it
_PROBES = (0.1, 0.5, 0.9)  # fractions at which the size of the drift is measured


class BridgeObjective:
    """Simulation-free training: the drift is regressed on the velocity of known paths between the sections.

    At a random fraction τ of each gap the cells are put where their paths are, u(τ), and the networks are asked for
    the paths' own velocity: L = E_τ [|μ_s(s) − ds/dz|² / S + |μ_g(s, g) − dg/dz|² / E], S and E the mean squares of the
    two velocities, so that 1 is the loss of a drift that stands still. No path is simulated and no cloud compared,
    which makes a step as cheap as one evaluation of the drift (flow matching: Lipman et al. 2023, arXiv:2210.02747;
    bridge matching: Peluchetti 2023, arXiv:2304.00917).

    Parameters
    ----------
    forward, backward
        The paths of the two directions, see `section_paths`.
    batch_size
        Most cells of one section that one step sees, as a compact tile at full density.
    at_least
        Tiles with fewer cells of a section leave it out.
    """

    def __init__(self, forward: Paths, backward: Paths, *, batch_size: int = 2048, at_least: int = 6) -> None:
        self.forward, self.backward = forward, backward
        self.batch_size, self.at_least = batch_size, at_least
        self._scales = [_mean_squares(paths) for paths in (forward, backward)]

    @property
    def moves_expression(self) -> bool:
        """Whether the paths change expression at all."""
        return any(expression > 0 for _, expression in self._scales)

    def phases(self, epochs: int) -> list[Phase]:
        """One phase in which both networks are trained."""
        return phases(epochs, alpha=1.0)

    def batches(self, *, generator: torch.Generator | None = None) -> list[list[Tensor] | None]:
        """Split one epoch into steps: for each the rows of every section that it sees, or None for all rows."""
        sections = self._sections()
        if max(map(len, sections)) <= self.batch_size:
            return [None]
        tiles = spatial_tiles(sections, batch_size=self.batch_size, generator=generator)
        tiles = [tile for tile in tiles if max(map(len, tile[:-1])) >= self.at_least <= max(map(len, tile[1:]))]
        order = torch.randperm(len(tiles), generator=generator).tolist() if generator else range(len(tiles))
        return [tiles[i] for i in order]

    def loss(
        self,
        forward: Drift,
        backward: Drift | None,
        *,
        iteration: int,
        phase: Phase,
        noise_seed: int,
        rows: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one step, and its parts: ``shape`` and ``expression``, each the mean over the two directions."""
        generator = torch.Generator().manual_seed(noise_seed)
        shape, expression = [], []
        for drift, paths, part, (s, e) in zip(
            (forward, backward),
            (self.forward, self.backward),
            (None, None) if rows is None else (rows[:-1], rows[1:]),
            self._scales,
            strict=True,
        ):
            if drift is None:
                continue
            seen = paths if part is None else paths.take(part, at_least=self.at_least)
            fraction = torch.rand(len(seen.sizes), generator=generator).to(seen.start)
            state, target = seen.at(fraction)
            difference = drift(state, sizes=seen.sizes, parts="both" if e else "shape") - target
            shape.append((difference[:, :2] ** 2).mean() / s if s else difference.new_zeros(()))
            expression.append((difference[:, 3:] ** 2).mean() / e if e else difference.new_zeros(()))
        parts = {"shape": torch.stack(shape).mean(), "expression": torch.stack(expression).mean()}
        loss = parts["shape"] + parts["expression"]
        return loss, {"loss": loss.item(), **{name: value.item() for name, value in parts.items()}}

    def _sections(self) -> list[Tensor]:
        """Positions of every section."""
        return [*self.forward.start.split(self.forward.sizes), self.backward.start.split(self.backward.sizes)[-1]]


def _mean_squares(paths: Paths) -> tuple[float, float]:
    """Mean squared velocity of position and of expression."""
    drifts = [paths.at(torch.full_like(paths.gap, t))[1] for t in _PROBES]
    shape, expression = (
        torch.stack([(drift[:, columns] ** 2).mean() for drift in drifts]).mean().item()
        for columns in (slice(0, 2), slice(3, None))
    )
    return shape, expression


@torch.no_grad()
def initialize_drift(drift: Drift, paths: Paths) -> None:
    """Make a fresh drift stand still and see its inputs standardised.

    The first layers' weights take in the mean and spread of the inputs, the last layers' begin at zero: an untrained
    network moves nothing, and a field finer than the whole tissue is within reach of the first steps.
    """
    state, _ = paths.at(torch.full_like(paths.gap, 0.5))
    mean, spread = state.mean(0), state.std(0).clamp_min(1e-3)
    first, *_, last = cast("Any", drift.shape.layers)
    for linear in (first.query, first.key, first.value, first.skip):
        linear.weight *= _GAIN / spread[:3]
        linear.bias -= linear.weight @ mean[:3]
    _zero(last.value, last.skip)
    if drift.expression is not None:
        entry, exit_ = cast("Any", drift.expression.down[0]), cast("Any", drift.expression.up[-1])
        entry.linear.weight *= _GAIN / spread
        entry.bias -= entry.linear.weight @ mean
        exit_.bias.zero_()
        _zero(exit_.linear)


def _zero(*linears: nn.Linear) -> None:
    for linear in linears:
        linear.weight.zero_()
        if linear.bias is not None:
            linear.bias.zero_()
