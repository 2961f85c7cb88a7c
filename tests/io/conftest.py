from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

GRID = {"origin": np.array([10.0, -20.0, 5.0]), "voxel_size": 2.5, "shape": np.array([4, 3, 5])}


@pytest.fixture(scope="session")
def shared_volume():
    """Most voxels of a grid of 4 × 3 × 5, in no order; gene0 is x, gene1 is y and gene2 is z of their centres."""
    rng = np.random.default_rng(0)
    index = np.argwhere(np.ones(GRID["shape"]))[rng.permutation(60)[:50]]
    centers = GRID["origin"] + (index + 0.5) * GRID["voxel_size"]
    return AnnData(
        centers.astype(np.float32),
        obs=pd.DataFrame(
            {"density": rng.random(50), "cell_type": pd.Categorical(rng.choice(["A", "B"], 50))},
            index=[f"voxel{i}" for i in range(50)],
        ),
        var=pd.DataFrame(index=["gene0", "gene1", "gene2"]),
        obsm={"spatial": centers, "voxel": index},
        uns={"isost": {"grid": GRID}},
    )


@pytest.fixture
def volume(shared_volume):
    """The same, for a test to change."""
    return shared_volume.copy()
