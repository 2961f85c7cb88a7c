from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from isost._processes import ALONE, Processes

from ._loop import WeightGroup
from ._schedule import Phase, phases
from ._tiles import tiled_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from isost.nn import Drift

    from ._paths import Paths

    Batch = tuple[list[Tensor], list[Tensor]]  # rows of every block, of those that go up and of those that go down

__all__ = ["BridgeObjective", "initialize_drift"]

_GAIN = 2.0  # of standardised inputs: spreads the tanh units over the tissue, so that they can resolve it
_MOST_POINTS = 2**14  # of one direction that one step sees
_CELLS_AT_ONCE = 2**16  # whose velocities are measured: bounds memory
_PROBES = 4  # Gauss–Legendre fractions at which squared velocities are measured: exact for these paths


class BridgeObjective:
    """Simulation-free training: the drift is regressed on the velocity of known paths between the sections.

    At a random fraction τ of each gap the cells are put where their paths are, u(τ), and the networks are asked for
    the paths' own velocity: L = E_τ [|μ_s(s) − ds/dz|² / S + |μ_g(s, g) − dg/dz|² / E], S and E the mean squares of the
    two velocities, so that each part is 1 for a drift that stands still. No path is simulated and no cloud compared,
    which makes a step as cheap as one evaluation of the drift (flow matching: Lipman et al. 2023, arXiv:2210.02747;
    bridge matching: Peluchetti 2023, arXiv:2304.00917). The cells of a frame keep one depth, so the drifts are planar.

    Parameters
    ----------
    forward, backward
        The paths of the two directions, see `section_paths`.
    batch_size
        Most cells of one section that one step sees, as a compact tile at full density.
    at_least
        Tiles with fewer cells of a section leave it out: a point needs its neighbours, so more than those.
    processes
        Those that train together. Each sees its share of the blocks of every step, first those that go up, then those
        that go down, and the mean of their losses is the loss.

    Raises
    ------
    ValueError
        When batch_size is below at_least.
    """

    def __init__(
        self,
        forward: Paths,
        backward: Paths,
        *,
        batch_size: int = 512,
        at_least: int = 6,
        processes: Processes = ALONE,
    ) -> None:
        if batch_size < at_least:
            msg = f"batch_size={batch_size} is below at_least={at_least}, so no tile could be used: raise batch_size"
            raise ValueError(msg)
        self.forward, self.backward = forward, backward
        self.batch_size, self.at_least = batch_size, at_least
        self._processes = processes
        self._scales = [_mean_squares(paths) for paths in (forward, backward)]

    @property
    def moves_expression(self) -> bool:
        """Whether the paths change expression at all."""
        return any(expression > 0 for _, expression in self._scales)

    def phases(self, epochs: int) -> list[Phase]:
        """One phase in which both networks are trained."""
        return phases(epochs, alpha=1.0)

    def weight_groups(self, forward: Drift, backward: Drift | None) -> list[WeightGroup]:
        """Weights to train; those of the last layers learn at the scale of the velocity that they put out.

        Optimisers that normalise by the gradient's size move every weight by about the learning rate. What is a small
        step for a hidden layer would throw the velocity of a slow path far off.
        """
        drifts = [forward] if backward is None else [forward, backward]
        inner: list[nn.Parameter] = []
        groups = [WeightGroup(inner)]
        for drift, (shape, expression) in zip(drifts, self._scales, strict=False):
            outputs = _output_weights(drift)
            for weights, mean_square in zip(outputs, (shape, expression), strict=True):
                if weights:
                    groups.append(WeightGroup(weights, min(1.0, math.sqrt(mean_square)) or 1.0))
            own = {id(weight) for weights in outputs for weight in weights}
            inner += [weight for weight in drift.parameters() if id(weight) not in own]
        return groups

    def batches(self, *, generator: torch.Generator | None = None) -> list[Batch | None]:
        """Split one epoch into steps: for each the rows of every block that it sees, up and down, or None for all rows.

        Sections above `batch_size` are cut into tiles, all along the same lines; where a tile of all sections is still
        more than 16,384 cells, some of its blocks are seen in one step and others in the next.
        """
        longest = max(*self.forward.sizes, *self.backward.sizes)
        if longest > self.batch_size:
            tiles = tiled_batches(
                self._sections(), batch_size=self.batch_size, is_usable=self._can_start, generator=generator
            )
            whole = [(tile[:-1], tile[1:]) for tile in tiles if tile is not None]
        else:
            whole = [(_all_rows(self.forward), _all_rows(self.backward))]
        parts = [part for tile in whole for part in self._split(tile, generator)]
        return [None] if len(parts) == 1 and longest <= self.batch_size else [*parts]

    def _split(self, tile: Batch, generator: torch.Generator | None) -> list[Batch]:
        """Share the blocks of a tile out among as many steps as keep each within bounds."""
        usable = [[block for block, _ in _long_enough(own, self.at_least)] for own in tile]
        points = max(sum(len(rows) for rows in own) for own in tile)
        n_parts = min(-(-points // _MOST_POINTS), *map(len, usable))
        if n_parts <= 1:
            return [tile]
        parts = []
        for own, blocks in zip(tile, usable, strict=True):
            order = torch.arange(len(blocks)) if generator is None else torch.randperm(len(blocks), generator=generator)
            shares = [{blocks[i] for i in share.tolist()} for share in order.tensor_split(n_parts)]
            parts.append([[rows if i in share else rows[:0] for i, rows in enumerate(own)] for share in shares])
        return list(zip(*parts, strict=True))

    def _can_start(self, tile: Sequence[Tensor]) -> bool:
        # each direction must have a section to start from: the forward one any but the last, the backward one any
        # but the first
        return all(max(map(len, own)) >= self.at_least for own in (tile[:-1], tile[1:]))

    def in_gap(self, gap: int, rows: Batch | None) -> Batch | None:
        """Those `rows` of a step that cross one gap, up and down; None where one way has too few of them."""
        whole = (_all_rows(self.forward), _all_rows(self.backward)) if rows is None else rows
        if min(len(own[gap]) for own in whole) < self.at_least:
            return None
        up, down = ([part if block == gap else part[:0] for block, part in enumerate(own)] for own in whole)
        return up, down

    def loss(
        self,
        forward: Drift,
        backward: Drift | None,
        *,
        iteration: int,
        phase: Phase,
        noise_seed: int,
        rows: Batch | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one step, and its parts: ``shape`` and ``expression``, each the mean over the two directions.

        Parameters
        ----------
        forward, backward
            The drifts up and down, planar; without `backward` the forward one is trained alone.
        iteration, phase
            Of no effect: all steps are alike.
        noise_seed
            Seed of the fractions τ, one for each gap: the same seed, the same loss.
        rows
            One entry of `batches`: the rows of every block that this step sees, all when None.

        Raises
        ------
        ValueError
            When a drift is not planar.
        """
        generator = torch.Generator().manual_seed(noise_seed)
        shape = expression = self.forward.start.new_zeros(())
        n_blocks = n_directions = 0
        for drift, paths, part, (s, e) in zip(
            (forward, backward),
            (self.forward, self.backward),
            (None, None) if rows is None else rows,
            self._scales,
            strict=True,
        ):
            if drift is None:
                continue
            if not drift.planar:
                msg = "the paths do not teach dz/dz, so the drift must have it built in: use Drift(..., planar=True)"
                raise ValueError(msg)
            usable = _long_enough(_all_rows(paths) if part is None else part, self.at_least)
            fraction = torch.rand(len(usable), generator=generator)
            own = self._processes.share(range(len(usable)), first=n_blocks)
            n_blocks, n_directions = n_blocks + len(usable), n_directions + 1
            if not own:
                continue
            whole = part is None and len(own) == len(paths.sizes)
            seen = paths if whole else paths.take(dict(usable[i] for i in own))
            weight = self._processes.count * sum(seen.sizes) / sum(len(rows) for _, rows in usable)
            state, target = seen.at(fraction[list(own)].to(seen.start))
            difference = drift(state, sizes=seen.sizes, parts="both" if e else "shape") - target
            # where the paths themselves stand still there is no scale, but still something to learn: not to move
            shape = shape + weight * (difference[:, :2] ** 2).mean() / (s or 1.0)
            expression = expression + weight * (difference[:, 3:] ** 2).mean() / (e or 1.0)
        parts = {"shape": shape / n_directions, "expression": expression / n_directions}
        loss = parts["shape"] + parts["expression"]
        return loss, {"loss": loss.item(), **{name: value.item() for name, value in parts.items()}}

    def _sections(self) -> list[Tensor]:
        """Positions of every section."""
        return [*self.forward.start.split(self.forward.sizes), self.backward.start.split(self.backward.sizes)[-1]]


def _all_rows(paths: Paths) -> list[Tensor]:
    return [torch.arange(size) for size in paths.sizes]


def _long_enough(rows: list[Tensor], at_least: int) -> list[tuple[int, Tensor]]:
    """List number and rows of every block that a step can use."""
    return [(block, own) for block, own in enumerate(rows) if len(own) >= at_least]


def _mean_squares(paths: Paths) -> tuple[float, float]:
    """Mean squared velocity of position and of expression, over cells and τ."""
    shape = expression = 0.0
    for part in paths.split(_CELLS_AT_ONCE):
        share = sum(part.sizes) / sum(paths.sizes)
        for place, weight in zip(*np.polynomial.legendre.leggauss(_PROBES), strict=True):  # on [−1, 1]
            _, drift = part.at(torch.full_like(part.gap, (1 + place) / 2))
            shape += share * weight / 2 * float((drift[:, :2] ** 2).mean())
            expression += share * weight / 2 * float((drift[:, 3:] ** 2).mean())
    return shape, expression


@torch.no_grad()
def initialize_drift(drift: Drift, paths: Paths) -> None:
    """Make a fresh drift stand still and see its inputs standardised.

    The first layers' weights take in the mean and spread of the inputs, the last layers' begin at zero: an untrained
    network moves nothing, and a field finer than the whole tissue is within reach of the first steps.

    Parameters
    ----------
    drift
        Drift with fresh weights, changed in place.
    paths
        What it will be trained on.
    """
    # both ends: at one fraction alone a single gap would show no spread in depth
    state = torch.cat([paths.at(torch.full_like(paths.gap, t))[0] for t in (0.0, 1.0)])
    mean, spread = state.mean(0), state.std(0).clamp_min(1e-3)
    first = cast("Any", drift.shape.layers[0])
    for linear in (first.query, first.key, first.value, first.skip):
        linear.weight *= _GAIN / spread[:3]
        linear.bias -= linear.weight @ mean[:3]
    if drift.expression is not None:
        entry = cast("Any", drift.expression.down[0])
        entry.linear.weight *= _GAIN / spread
        entry.bias -= entry.linear.weight @ mean
    for weights in _output_weights(drift):
        for weight in weights:
            weight.zero_()


def _output_weights(drift: Drift) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights that the velocity of the positions, and that of the expression, is linear in."""
    last = cast("Any", drift.shape.layers[-1])
    shape = [last.value.weight, last.value.bias, last.skip.weight, last.skip.bias]
    if drift.expression is None:
        return shape, []
    exit_ = cast("Any", drift.expression.up[-1])
    return shape, [exit_.linear.weight, exit_.bias]
