from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from isost.field import hilbert_order
from isost.nn import Drift
from isost.sde import GaussianNoise, depth_grid, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from isost.model import IsoST

__all__ = ["Carried", "carry_sections", "locate", "runs_of_gaps"]

_MOST_POINTS = 65_536  # that walk together: bounds memory; noise and graphs do not depend on it
_ROUNDING = 1e-9  # of a gap: a depth this near to a section is the section's own, computed in another way


class Place(NamedTuple):
    """Where a depth lies in the stack."""

    gap: int  # between sections gap and gap + 1
    fraction: float  # of the gap, 0 at its lower section


@dataclass(frozen=True)
class Carried:
    """One section's cells, carried to a depth.

    Attributes
    ----------
    target
        Which of the depths asked for.
    section
        Section that the cells come from; all its cells are here, in its order.
    state
        Their states (n, 3 + G), or positions (n, 3) where these alone were carried.
    weight
        Share of them that a section at this depth would have: 1 − t of the lower section, t of the upper one.
    """

    target: int
    section: int
    state: NDArray[np.float32]
    weight: float


def locate(depths: NDArray[np.floating], target: float) -> Place:
    """Find the gap that holds a depth, and the fraction of it.

    Parameters
    ----------
    depths
        Depth of each section (K,), increasing, any one unit.
    target
        Depth to find, the same unit.

    Returns
    -------
    Gap and fraction; at a measured section, within rounding, the fraction is exactly 0 or 1.
    """
    gap = int(np.clip(np.searchsorted(depths, target, side="right") - 1, 0, len(depths) - 2))
    fraction = float((target - depths[gap]) / (depths[gap + 1] - depths[gap]))
    end = float(round(fraction))
    return Place(gap, end if abs(fraction - end) <= _ROUNDING else fraction)


def carry_sections(
    model: IsoST,
    states: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    targets: NDArray[np.floating],
    *,
    seed: int,
    parts: Literal["both", "shape"] = "both",
) -> Iterator[Carried]:
    """Carry every section up and down through its gaps and hold it at the depths asked for.

    Each gap is walked by the drift of its direction from the section that borders it, through all the depths asked for
    inside it; the way from one to the next takes steps of about the model's length, at least one. At a measured depth
    the section itself is returned.

    Parameters
    ----------
    model
        The trained model.
    states
        State (n_k, 3 + G) of each section, in order of depth.
    depths
        Depth of each section (K,), state units.
    targets
        Depths asked for, between the first and the last section, in any order.
    seed
        Seed of the noise.
    parts
        With ``"shape"`` positions (n, 3) alone, which do not depend on expression: those that ``"both"`` gives, noise
        included, without the cost of the expression network.

    Yields
    ------
    For every depth the section below and the one above, in no particular order; at a measured depth that section.
    A model of one direction carries the section below alone, with weight 1.
    """
    if parts == "shape":
        states = [state[:, :3] for state in states]
    inside: dict[int, list[int]] = {}
    for target, depth in enumerate(targets):
        place = locate(depths, float(depth))
        if place.fraction in (0.0, 1.0):
            section = place.gap + int(place.fraction)
            yield Carried(target, section, np.asarray(states[section], np.float32), 1.0)
        else:
            inside.setdefault(place.gap, []).append(target)
    for direction in model.drifts:
        sizes = {gap: len(states[gap + (direction == "backward")]) for gap in sorted(inside)}
        for gaps in runs_of_gaps(sizes):
            routes = [_route(gap, inside[gap], depths, targets, direction, model.settings.delta_z) for gap in gaps]
            yield from _walked(model, direction, routes, states, depths, targets, seed=seed)


@dataclass(frozen=True)
class _Route:
    gap: int
    section: int
    grid: torch.Tensor  # depths of every step, that of the section first
    stops: dict[int, list[int]]  # number of the step → targets at the depth it reaches


def _route(
    gap: int,
    wanted: Sequence[int],
    depths: NDArray[np.floating],
    targets: NDArray[np.floating],
    direction: str,
    delta_z: float,
) -> _Route:
    """Lay out the steps through one gap, with a stop at every depth wanted."""
    section = gap + (direction == "backward")
    here = float(depths[section])
    grids, stops, n_steps = [torch.tensor([here], dtype=torch.float64)], {}, 0
    for depth in sorted({float(targets[i]) for i in wanted}, reverse=direction == "backward"):
        leg = depth_grid(here, depth, delta_z)[1:]
        grids.append(leg)
        n_steps += len(leg)
        stops[n_steps] = [i for i in wanted if float(targets[i]) == depth]
        here = depth
    return _Route(gap, section, torch.cat(grids), stops)


def _walked(
    model: IsoST,
    direction: str,
    routes: Sequence[_Route],
    states: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    targets: NDArray[np.floating],
    *,
    seed: int,
) -> Iterator[Carried]:
    drift, sigma = model.drifts[direction], model.sigma
    device = model.device
    n_dims = states[0].shape[1]
    if n_dims == 3:
        drift = _of_positions(drift)
    # cells that are near each other lie near each other in memory, too: neighbours are found and read faster
    along = [hilbert_order(states[route.section][:, :2]) for route in routes]
    starts = [np.asarray(states[route.section], np.float32)[order] for route, order in zip(routes, along, strict=True)]
    with torch.inference_mode():
        steps = walk(
            drift,
            [torch.as_tensor(start, device=device) for start in starts],
            [route.grid for route in routes],
            sigma=None if sigma is None else sigma[:n_dims].to(device),
            noise=None if sigma is None else GaussianNoise(seed, n_dims=len(sigma)),
            # one stream of noise for each gap and direction, whatever walks beside it
            block_ids=[2 * route.gap + (direction == "backward") for route in routes],
        )
        for step, moved in steps:
            for block, state in moved.items():
                route = routes[block]
                for target in route.stops.get(step, ()):
                    t = locate(depths, float(targets[target])).fraction
                    share = t if direction == "backward" else 1 - t
                    weight = share if model.settings.dual else 1.0
                    carried = np.empty_like(starts[block])
                    carried[along[block]] = state.cpu().numpy()
                    yield Carried(target, route.section, carried, weight)


def _of_positions(drift: Drift) -> Drift:
    """Drift of the positions alone, by the same network."""
    with torch.device("meta"):  # draws no weights: those of the drift take their place
        alone = Drift(0, n_neighbors=drift.n_neighbors, planar=drift.planar)
    alone.shape = drift.shape
    return alone


def runs_of_gaps(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Split gaps into runs that walk together: as many as keep the number of points within bounds.

    Parameters
    ----------
    sizes
        Gap to the number of points that walk through it, in order.

    Yields
    ------
    Consecutive entries of `sizes`; at least one, even where it is beyond the bound by itself.
    """
    run: list[int] = []
    points = 0
    for gap, size in sizes.items():
        if run and points + size > _MOST_POINTS:
            yield run
            run, points = [], 0
        run.append(gap)
        points += size
    if run:
        yield run
