from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import torch
from torch.utils.checkpoint import checkpoint as recomputed

from ._euler import euler_maruyama

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from ._noise import Noise

__all__ = ["DriftFunction", "carry", "depth_grid", "step_count", "walk"]


class DriftFunction(Protocol):
    """What `walk` asks of a drift: du/dz of all points, blocks one after another. `isost.nn.Drift` is one."""

    def __call__(self, state: Tensor, *, sizes: Sequence[int]) -> Tensor:
        """Drift (n, 3 + G) of the states (n, 3 + G); `sizes` are the points of each block."""
        ...


def step_count(gap: float, delta_z: float, *, minimum: int = 0) -> int:
    """Count the steps in which a gap is walked: Python's ``round`` of its width / delta_z, at least `minimum`.

    Parameters
    ----------
    gap
        Signed or unsigned width of the gap, any one unit.
    delta_z
        Wanted length of a step, the same unit.
    minimum
        Least number of steps. With 0, as published, a gap narrower than half a step is not walked at all.

    Returns
    -------
    Number of steps.

    Raises
    ------
    ValueError
        When delta_z is not positive.
    """
    if not delta_z > 0:
        msg = f"delta_z must be positive, not {delta_z}"
        raise ValueError(msg)
    return max(round(abs(gap) / delta_z), minimum)


def depth_grid(start: float, stop: float, delta_z: float, *, minimum: int = 1) -> Tensor:
    """Depths of a walk from `start` to `stop` in n equal steps, both ends exact; n as `step_count` gives it.

    Parameters
    ----------
    start, stop
        First and last depth, state units; stop < start walks back.
    delta_z
        Wanted length of a step, state units.
    minimum
        Least number of steps. With 0 steps the grid is `start` alone.

    Returns
    -------
    Depths (n + 1,), float64.

    Raises
    ------
    ValueError
        When delta_z is not positive.
    """
    n_steps = step_count(stop - start, delta_z, minimum=minimum)
    if n_steps == 0:
        return torch.tensor([start], dtype=torch.float64)
    grid = start + (stop - start) * torch.arange(n_steps + 1, dtype=torch.float64) / n_steps
    grid[-1] = stop
    return grid


def walk(
    drift: DriftFunction,
    blocks: Sequence[Tensor],
    depths: Sequence[Tensor],
    *,
    sigma: Tensor | None = None,
    noise: Noise | None = None,
    block_ids: Sequence[int] | None = None,
    planar: bool | None = None,
    checkpoint: bool = False,
) -> Iterator[tuple[int, dict[int, Tensor]]]:
    """Walk all blocks along their depths by Euler–Maruyama, together, one step at a time.

    A block is the cells of one section on their way across a gap. In each step the drift sees all blocks that still
    walk as one block-diagonal graph; a block that has arrived drops out. Every state comes from the one before it by
    differentiable operations, so the gradient of what is yielded is the gradient of the very path that was taken.

    Parameters
    ----------
    drift
        Drift du/dz, such as `isost.nn.Drift`. Descending depths walk back with the same meaning of the drift.
    blocks
        States (n_b, 3 + G) at which each block starts.
    depths
        Depths (m_b + 1,) of each block, the first that of its start, state units; ascending or descending.
    sigma
        Noise of each dimension (3 + G,), state units per root of z; None walks without noise.
    noise
        Source of the Brownian increments; needed with `sigma`, and only then.
    block_ids
        Number by which `noise` knows each block; the position in `blocks` when None. Blocks that must not share
        noise need different numbers: also the two directions, and the parts of a walk taken in chunks.
    planar
        Whether all points of a block keep one depth: that of the grid, exactly, without noise. None asks
        ``drift.planar``, and takes a drift without that attribute for not planar.
    checkpoint
        Recompute the drift in the backward pass instead of storing what it needs: less memory, more time, the same
        gradient.

    Yields
    ------
    After each step i = 1, 2, …: i, and the states (n_b, 3 + G) of the blocks that made their i-th step, by position
    in `blocks`.

    Raises
    ------
    ValueError
        When blocks, depths and block_ids differ in number, a block has no depth, or only one of `sigma` and `noise`
        is given.
    """
    grids = _checked_grids(blocks, depths, block_ids=block_ids, sigma=sigma, noise=noise)
    # Checked at the call, walked when asked for: a generator alone would raise only at its first step.
    return _steps(
        drift,
        dict(enumerate(blocks)),
        grids,
        sigma=sigma,
        noise=noise,
        block_ids=range(len(blocks)) if block_ids is None else block_ids,
        planar=bool(getattr(drift, "planar", False)) if planar is None else planar,
        checkpoint=checkpoint,
    )


def carry(
    drift: DriftFunction,
    blocks: Sequence[Tensor],
    depths: Sequence[Tensor],
    *,
    sigma: Tensor | None = None,
    noise: Noise | None = None,
    block_ids: Sequence[int] | None = None,
    planar: bool | None = None,
    checkpoint: bool = False,
) -> list[Tensor]:
    """Walk all blocks to the end of their depths, see `walk`.

    Parameters
    ----------
    drift, blocks, depths, sigma, noise, block_ids, planar, checkpoint
        As those of `walk`.

    Returns
    -------
    States (n_b, 3 + G) in which the blocks arrive; a block of one depth stays as it is.

    Raises
    ------
    ValueError
        As `walk` does.
    """
    arrived = list(blocks)
    steps = walk(
        drift,
        blocks,
        depths,
        sigma=sigma,
        noise=noise,
        block_ids=block_ids,
        planar=planar,
        checkpoint=checkpoint,
    )
    for _, states in steps:
        for block, state in states.items():
            arrived[block] = state
    return arrived


def _checked_grids(
    blocks: Sequence[Tensor],
    depths: Sequence[Tensor],
    *,
    block_ids: Sequence[int] | None,
    sigma: Tensor | None,
    noise: Noise | None,
) -> list[list[float]]:
    if len(depths) != len(blocks) or (block_ids is not None and len(block_ids) != len(blocks)):
        n_ids = "no" if block_ids is None else len(block_ids)
        msg = f"{len(blocks)} blocks, {len(depths)} depths and {n_ids} block_ids: pass one of each for every block"
        raise ValueError(msg)
    if (sigma is None) != (noise is None):
        given, lacking = ("noise", "sigma") if sigma is None else ("sigma", "noise")
        msg = f"{given} needs {lacking}: pass both, such as noise=GaussianNoise(seed), or neither to walk without noise"
        raise ValueError(msg)
    for block, grid in enumerate(depths):
        if len(grid) == 0:
            msg = f"block {block} has no depths: start with the depth of its section, see depth_grid"
            raise ValueError(msg)
    return [grid.tolist() for grid in depths]


def _steps(
    drift: DriftFunction,
    states: dict[int, Tensor],
    grids: Sequence[Sequence[float]],
    *,
    sigma: Tensor | None,
    noise: Noise | None,
    block_ids: Sequence[int],
    planar: bool,
    checkpoint: bool,
) -> Iterator[tuple[int, dict[int, Tensor]]]:
    lengths = [[after - before for before, after in pairwise(grid)] for grid in grids]
    for step in range(1, max(map(len, grids), default=1)):
        walking = [block for block in states if len(lengths[block]) >= step]
        batch = torch.cat([states[block] for block in walking])
        sizes = [len(states[block]) for block in walking]
        h = _per_point([lengths[block][step - 1] for block in walking], sizes, like=batch)
        speed = (
            recomputed(drift, batch, sizes=sizes, use_reentrant=False, preserve_rng_state=False)
            if checkpoint
            else drift(batch, sizes=sizes)
        )
        if noise is None or sigma is None:
            batch = euler_maruyama(batch, speed, h)
        else:
            increment = partial(noise.increment, dtype=batch.dtype, device=batch.device)
            increments = [
                increment(block_ids[block], step, states[block].shape, h=lengths[block][step - 1]) for block in walking
            ]
            batch = euler_maruyama(batch, speed, h, torch.cat(increments), sigma.to(batch))
        if planar:
            depth = _per_point([grids[block][step] for block in walking], sizes, like=batch)
            batch = torch.cat([batch[:, :2], depth, batch[:, 3:]], dim=1)
        states = dict(zip(walking, batch.split(sizes), strict=True))
        yield step, states


def _per_point(values: Sequence[float], sizes: Sequence[int], *, like: Tensor) -> Tensor:
    """Each block's value for each of its points (n, 1)."""
    per_block = torch.tensor(values, dtype=like.dtype, device=like.device)
    return per_block.repeat_interleave(torch.tensor(sizes, device=like.device)).unsqueeze(-1)
