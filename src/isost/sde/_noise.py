from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GaussianNoise", "Noise"]


class Noise(Protocol):
    """Source of the Brownian increments ΔW of a walk."""

    def increment(
        self, block: int, step: int, shape: tuple[int, ...], *, h: float, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Brownian increments over one step of one block.

        Parameters
        ----------
        block
            Number of the block, the same in whatever company it walks.
        step
            Number of the step in that block, from 1.
        shape
            Points and dimensions, (n, 3 + G).
        h
            Length of the step in z, state units; negative on the way back.
        dtype, device
            Of the increments.

        Returns
        -------
        Independent draws of N(0, |h|), of the given shape.
        """
        ...


class GaussianNoise:
    """Brownian increments fixed by a seed, the number of the block and the number of the step.

    Every increment has a random stream of its own, so that results do not depend on which blocks walk together, on
    chunks, processes or devices, nor on the order in which increments are asked for. Global random state is neither
    read nor changed.

    Parameters
    ----------
    seed
        Any non-negative integer.
    n_dims
        Dimensions that are drawn. A walk of the first few of them alone gets the increments that these have in a walk
        of all. As many as are asked for when None.

    Raises
    ------
    ValueError
        When the seed is negative.
    """

    def __init__(self, seed: int, *, n_dims: int | None = None) -> None:
        if seed < 0:
            msg = f"seed must be 0 or more, not {seed}"
            raise ValueError(msg)
        self.seed, self.n_dims = seed, n_dims

    def increment(
        self, block: int, step: int, shape: tuple[int, ...], *, h: float, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Increments ~ N(0, |h|) of one step of one block; see `Noise`."""
        # Drawn by NumPy on the host: torch's CPU generator keeps 32 bits of its seed, too few for streams that never
        # meet, and its CUDA generator would give other draws.
        stream = np.random.SeedSequence(self.seed, spawn_key=(block, step))
        precision = np.float64 if dtype == torch.float64 else np.float32
        *n, n_dims = shape
        drawn = (*n, self.n_dims or n_dims)
        draws = np.random.Generator(np.random.SFC64(stream)).standard_normal(drawn, dtype=precision)[..., :n_dims]
        return torch.from_numpy(draws).to(device=device, dtype=dtype) * math.sqrt(abs(h))
