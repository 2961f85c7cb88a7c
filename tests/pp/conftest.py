from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

if TYPE_CHECKING:
    from collections.abc import Callable


def _section(seed: int, *, n: int = 30, n_genes: int = 8, z: float | None = None, **obs: Any) -> AnnData:
    rng = np.random.default_rng(seed)
    X = np.log1p(rng.gamma(1.0, 2.0, (n, n_genes)) * (rng.random((n, n_genes)) < 0.6)).astype(np.float32)
    section = AnnData(
        X,
        obs=pd.DataFrame(obs, index=[f"s{seed}_{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"gene{g}" for g in range(n_genes)]),
        obsm={"spatial": rng.normal([500.0, -20.0], [100.0, 30.0], (n, 2))},
    )
    if z is not None:
        section.obs["z"] = z
    return section


@pytest.fixture(scope="session")
def make_section() -> Callable[..., AnnData]:
    """Factory of one random section, seeded."""
    return _section


@pytest.fixture
def sections() -> list[AnnData]:
    """Four sections at uneven depths, not in z order."""
    return [_section(i, n=25 + 3 * i, z=z) for i, z in enumerate([20.0, 0.0, 35.0, 10.0])]
