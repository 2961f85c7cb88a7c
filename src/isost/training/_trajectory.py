from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch

from isost._processes import ALONE, Processes
from isost.nn import nearest_neighbors
from isost.sde import GaussianNoise, depth_grid, walk

from ._loop import WeightGroup
from ._nearest import expression_loss
from ._schedule import BetaSchedule, Phase, phases
from ._sinkhorn import sinkhorn_divergence
from ._tiles import tiled_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from isost.nn import Drift

__all__ = ["TrajectoryObjective", "TrajectorySettings"]


@dataclass(frozen=True, kw_only=True)
class TrajectorySettings:
    """Settings of `TrajectoryObjective`; the defaults are the published brain run's, without its β and with a fine Δz.

    Attributes
    ----------
    delta_z
        Wanted length of a step, in units of the state's z. A gap is walked in at least one step.
    sigma
        Noise of (x, y, z, every component), or of each of the 3 + G dimensions, per root of z; None for none.
    alpha
        Weight of the expression loss in joint phases.
    stride
        Gaps that each section is carried across; the losses met at the sections on the way are averaged.
    dual
        Train both directions; False trains the forward one alone.
    freeze
        Keep the shape network still in expression phases. The published program lets the expression loss move it.
    warm_up_rate
        Factor of the loss in shape and expression phases.
    beta_start_value, beta_end_value, beta_start_iteration, beta_n_iterations
        The `BetaSchedule` that multiplies the whole loss.
    blur, scaling
        Of the shape loss, see `sinkhorn_divergence`.
    batch_size
        Most cells of one section that one step sees, as a spatial tile at full density; None for all of them.
    min_cells
        Sections with fewer cells in a tile sit that step out: a point needs its neighbours, so more than those.
    checkpoint
        Recompute the steps of a walk in the backward pass: less memory, more time, the same gradient.
    """

    delta_z: float = 0.02
    sigma: tuple[float, ...] | None = (0.01, 0.01, 0.1, 0.1)
    alpha: float = 0.1
    stride: int = 1
    dual: bool = True
    freeze: bool = False
    warm_up_rate: float = 1.0
    beta_start_value: float = 1.0
    beta_end_value: float = 1.0
    beta_start_iteration: int = 0
    beta_n_iterations: int = 0
    blur: float = 0.05
    scaling: float = 0.5
    batch_size: int | None = None
    min_cells: int = 6
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.stride < 1 or self.min_cells < 1 or (self.batch_size is not None and self.batch_size < self.min_cells):
            msg = (
                f"stride must be at least 1 and batch_size at least min_cells={self.min_cells}, "
                f"got stride={self.stride}, batch_size={self.batch_size}"
            )
            raise ValueError(msg)

    @property
    def beta(self) -> BetaSchedule:
        """The schedule that the four beta settings describe."""
        return BetaSchedule(
            self.beta_start_value, self.beta_end_value, self.beta_start_iteration, self.beta_n_iterations
        )


class TrajectoryObjective:
    """The published objective: carry each section to the next by the SDE and compare it with what was measured there.

    The loss is β · Σ over sections and directions of the mean over the sections met of (shape weight · Sinkhorn
    divergence of the 3D positions + expression weight · mean squared difference to the nearest measured point), as
    isoST (doi:10.1101/2025.08.15.670472) defines it. All gaps of a direction walk together, and the gradient is that
    of the very path taken, by backpropagation through its Euler–Maruyama steps.

    Parameters
    ----------
    sections
        State (n_k, 3 + G) of each section, in the order of depth.
    depths
        Depth (K,) of each section, in units of the state's z, all increasing or all decreasing: the forward drift is
        that along the order given.
    settings
        What to compute; the defaults when None.
    processes
        Those that train together. Each carries its share of the sections, first those that go up, then those that go
        down, and the mean of their losses is the loss.

    Raises
    ------
    ValueError
        If there are fewer than two sections, their columns or their number do not fit, the depths do not run one way,
        or `sigma` has neither 4 nor 3 + G entries.
    """

    def __init__(
        self,
        sections: Sequence[Tensor],
        depths: Tensor,
        *,
        settings: TrajectorySettings | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.sections = list(sections)
        self.settings = settings or TrajectorySettings()
        self._processes = processes
        _check_sections(self.sections, depths)
        self._sigma = _sigma_vector(self.settings.sigma, like=self.sections[0])
        grid = [float(depth) for depth in depths]
        self._routes = {
            "forward": _routes(grid, range(len(grid)), self.settings),
            "backward": _routes(grid, range(len(grid))[::-1], self.settings),
        }

    def phases(self, epochs: int | Sequence[int]) -> list[Phase]:
        """Phases of training with this objective's weights; see `isost.training.phases`."""
        return phases(epochs, alpha=self.settings.alpha, warm_up_rate=self.settings.warm_up_rate)

    def weight_groups(self, forward: Drift, backward: Drift | None) -> list[WeightGroup]:
        """Weights to train: all at one learning rate."""
        drifts = [forward] if backward is None else [forward, backward]
        return [WeightGroup([weight for drift in drifts for weight in drift.parameters()])]

    def batches(self, *, generator: torch.Generator | None = None) -> list[list[Tensor] | None]:
        """Split one epoch into the rows that each optimisation step sees.

        Parameters
        ----------
        generator
            Turns the tiling anew, so that borders do not always fall in the same place, and shuffles the tiles; None
            leaves both as they are.

        Returns
        -------
        For each step the rows of every section, or one None, for all rows, when no section exceeds `batch_size`.
        Tiles without two neighbouring sections to compare are left out.
        """
        return tiled_batches(
            self.sections, batch_size=self.settings.batch_size, is_usable=self._can_compare, generator=generator
        )

    def _can_compare(self, tile: Sequence[Tensor]) -> bool:
        return any(min(len(rows) for rows in pair) >= self.settings.min_cells for pair in pairwise(tile))

    def in_gap(self, gap: int, rows: Sequence[Tensor] | None) -> list[Tensor] | None:
        """Those `rows` of a step that lie in the two sections around one gap; None where these are too few."""
        whole = [torch.arange(len(section)) for section in self.sections] if rows is None else rows
        sides = range(gap, gap + 2)
        if min(len(whole[k]) for k in sides) < self.settings.min_cells:
            return None
        return [own if k in sides else own[:0] for k, own in enumerate(whole)]

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
        """Loss of one optimisation step.

        Parameters
        ----------
        forward, backward
            The drifts up and down; `backward` may be None where `dual` is false.
        iteration
            Steps made in this phase so far; what β depends on.
        phase
            Weights of the two losses.
        noise_seed
            Seed of this step's noise: the same seed, the same loss.
        rows
            One entry of `batches`: the rows of every section that this step sees, all when None.

        Returns
        -------
        The loss, a scalar to differentiate, and numbers to log: ``loss``, ``beta``, and ``shape`` and ``expression``,
        the two losses without any weight, where the phase needs them.

        Raises
        ------
        ValueError
            If there is no backward drift to train, or no two neighbouring sections have cells among `rows`.
        """
        sections = (
            self.sections if rows is None else [part[index] for part, index in zip(self.sections, rows, strict=True)]
        )
        smallest = 1 if rows is None else self.settings.min_cells
        present = {number for number, section in enumerate(sections) if len(section) >= smallest}
        losses = _Losses(phase, self.settings, sections[0], factor=self._processes.count)
        noise = GaussianNoise(noise_seed)
        n_routes = 0
        for direction, drift in self._directions(forward, backward):
            possible = [route for route in self._routes[direction] if route.start in present and route.met(present)]
            routes = self._processes.share(possible, first=n_routes)
            n_routes += len(possible)
            steps = walk(
                _PhaseDrift(drift, phase.name, freeze=self.settings.freeze),
                [sections[route.start] for route in routes],
                [route.depths for route in routes],
                sigma=self._sigma,
                noise=None if self._sigma is None else noise,
                # The two directions must not share noise.
                block_ids=[route.start + (len(sections) if direction == "backward" else 0) for route in routes],
                checkpoint=self.settings.checkpoint,
            )
            for step, states in steps:
                for block, state in states.items():
                    met = routes[block].met(present)
                    if step in met:
                        losses.add(state, sections[met[step]], share=1 / len(met))
        if not (n_routes and losses.sums):
            msg = (
                "there is nothing to compare: no two neighbouring sections have cells among these rows (raise "
                "batch_size, or pass rows=None), or an expression phase has no components"
            )
            raise ValueError(msg)
        return losses.total(self.settings.beta(iteration))

    def _directions(self, forward: Drift, backward: Drift | None) -> list[tuple[Literal["forward", "backward"], Drift]]:
        if not self.settings.dual:
            return [("forward", forward)]
        if backward is None:
            msg = "there is no backward drift: pass one, or dual=False to train the forward direction alone"
            raise ValueError(msg)
        return [("forward", forward), ("backward", backward)]


@dataclass(frozen=True)
class _Route:
    """The way of one section across the next `stride` gaps."""

    start: int
    depths: Tensor  # of every step, that of the section first
    arrivals: dict[int, int]  # number of the step → section met there

    def met(self, present: set[int]) -> dict[int, int]:
        return {step: section for step, section in self.arrivals.items() if section in present}


def _routes(depths: Sequence[float], order: range, settings: TrajectorySettings) -> list[_Route]:
    """Routes of all sections but the last in `order`, which is that of the way up or down."""
    routes = []
    for place in range(len(order) - 1):
        stops = order[place : place + settings.stride + 1]
        grids = [torch.tensor([depths[stops[0]]], dtype=torch.float64)]
        arrivals, n_steps = {}, 0
        for here, there in pairwise(stops):
            grids.append(depth_grid(depths[here], depths[there], settings.delta_z)[1:])
            n_steps += len(grids[-1])
            arrivals[n_steps] = there
        routes.append(_Route(stops[0], torch.cat(grids), arrivals))
    return routes


class _PhaseDrift:
    """A drift as a phase of training uses it: no work for what its loss does not see."""

    def __init__(self, drift: Drift, phase: str, *, freeze: bool) -> None:
        self.drift = drift
        self.planar = drift.planar
        # Positions do not depend on expression, so the shape loss is the same without the expression network.
        self.parts: Literal["both", "shape"] = "shape" if phase == "shape" else "both"
        self.hold_shape = freeze and phase == "expression"

    def __call__(self, state: Tensor, *, sizes: Sequence[int]) -> Tensor:
        if not self.hold_shape:
            moved: Tensor = self.drift(state, sizes=sizes, parts=self.parts)
            return moved
        table = nearest_neighbors(state[:, :3], self.drift.n_neighbors, sizes=sizes)
        # Without a graph its weights get no gradient at all; one of zeros would let the optimiser's momentum move them.
        with torch.no_grad():
            position = self.drift(state, sizes=sizes, table=table, parts="shape")[:, :3]
        expression = self.drift(state, sizes=sizes, table=table, parts="expression")[:, 3:]
        return torch.cat([position, expression], dim=1)


class _Losses:
    """Running sums of the losses that a phase asks for, times a factor."""

    def __init__(self, phase: Phase, settings: TrajectorySettings, like: Tensor, *, factor: float) -> None:
        self.settings, self.factor = settings, factor
        weights = {"shape": phase.shape_weight, "expression": phase.expression_weight if like.shape[1] > 3 else 0.0}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.sums = {name: like.new_zeros(()) for name in self.weights}

    def add(self, carried: Tensor, measured: Tensor, *, share: float) -> None:
        if "shape" in self.sums:
            blur, scaling = self.settings.blur, self.settings.scaling
            divergence = sinkhorn_divergence(carried[:, :3], measured[:, :3], blur=blur, scaling=scaling)
            self.sums["shape"] = self.sums["shape"] + self.factor * share * divergence
        if "expression" in self.sums:
            difference = expression_loss(carried, measured)
            self.sums["expression"] = self.sums["expression"] + self.factor * share * difference

    def total(self, beta: float) -> tuple[Tensor, dict[str, float]]:
        loss = beta * torch.stack([self.weights[name] * value for name, value in self.sums.items()]).sum()
        return loss, {"loss": loss.item(), "beta": beta} | {name: value.item() for name, value in self.sums.items()}


def _check_sections(sections: Sequence[Tensor], depths: Tensor) -> None:
    if len(sections) < 2 or depths.shape != (len(sections),):
        msg = f"needs two or more sections and one depth for each, got {len(sections)} and depths {tuple(depths.shape)}"
        raise ValueError(msg)
    if not (bool((depths.diff() > 0).all()) or bool((depths.diff() < 0).all())):
        msg = f"depths must run one way from section to section, got {depths.tolist()}; isost.pp.slice_stack sorts them"
        raise ValueError(msg)
    widths = {section.shape[1] for section in sections}
    if len(widths) > 1:
        msg = f"all sections must have the same 3 + G columns, got {sorted(widths)}"
        raise ValueError(msg)


def _sigma_vector(sigma: Sequence[float] | None, *, like: Tensor) -> Tensor | None:
    """Noise of each dimension (3 + G,); None where there is none, so that none is drawn."""
    if sigma is None or not any(sigma):
        return None
    n_dims = like.shape[1]
    if len(sigma) not in (4, n_dims):
        msg = f"sigma must hold 4 numbers, x, y, z and every component, or {n_dims}, one a dimension, got {len(sigma)}"
        raise ValueError(msg)
    full = list(sigma) if len(sigma) == n_dims else [*sigma[:3], *[sigma[3]] * (n_dims - 3)]
    return torch.tensor(full, dtype=like.dtype, device=like.device)
