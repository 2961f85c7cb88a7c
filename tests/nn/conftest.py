from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from isost.nn import nearest_neighbors

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def edge_index() -> Callable[[Tensor], Tensor]:
    """A neighbour table (n, k) as PyG's edges (2, n·k): from neighbour to centre."""

    def convert(table: Tensor) -> Tensor:
        return torch.stack([table.reshape(-1), torch.arange(len(table)).repeat_interleave(table.shape[1])])

    return convert


@pytest.fixture
def cloud() -> Callable[..., tuple[Tensor, Tensor]]:
    """Random positions (n, 3) of one or several blocks, float64, and their neighbour table."""

    def make(*sizes: int, n_neighbors: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        position = torch.rand(sum(sizes), 3, dtype=torch.float64, generator=generator)
        return position, nearest_neighbors(position, n_neighbors, sizes=sizes)

    return make
