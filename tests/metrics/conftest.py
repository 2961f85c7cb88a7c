from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from isost.metrics import Section

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def tissue() -> Callable[..., Section]:
    """Cells with expression that varies smoothly over the plane and with depth, plus noise."""

    def make(seed: int, n: int, *, n_genes: int = 12, z: float = 0.0) -> Section:
        rng = np.random.default_rng(seed)
        positions = rng.random((n, 2)) * [100.0, 60.0] + [1000.0, -50.0]
        waves = np.random.default_rng(99).normal(size=(2, n_genes)) / 20
        expression = np.sin(positions @ waves + z) + 0.4 * rng.normal(size=(n, n_genes))
        mean = np.sin(positions @ waves + z) + 0.1 * rng.normal(size=(n, n_genes))
        return Section(positions, expression, mean, z=z)

    return make
