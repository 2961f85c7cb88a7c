"""How near generated sections come to the truth of the synthetic organ, beside linear interpolation.

    OMP_NUM_THREADS=1 python benchmarks/organ.py [--seeds 0 1 2]

Default settings. At the middle of every gap: the root mean square error of expected expression (log1p) over generated
cells and genes, for isost and for linear interpolation at the same places (both neighbours' 10 nearest cells, weighted
by distance: `isost.metrics.baseline("linear")`); and the surface, in spacings of cells inside sections: how far
generated cells lie outside the tissue, and how far its true edge is from the nearest generated cell, beside the same
for a section really cut there.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

import isost
from isost.metrics import neighbor_mean

isost.settings.progress = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    rows = pd.concat([measured(seed) for seed in options.seeds], ignore_index=True)
    print(rows.round(3).to_string(index=False))
    print(rows.drop(columns=["seed", "z"]).mean().round(3).to_string())


def measured(seed: int) -> pd.DataFrame:
    sections = isost.datasets.organ(seed=seed)
    truth = isost.datasets.Organ(**sections[0].uns["organ"])
    stack = isost.pp.slice_stack(sections)
    model = isost.tl.fit(stack, seed=seed)
    spacing = np.median(
        np.concatenate([cKDTree(s.obsm["spatial"]).query(s.obsm["spatial"], 2)[0][:, 1] for s in sections])
    )
    depths = np.array([float(s.obs["z"].iloc[0]) for s in sections])
    rows = []
    for k, middle in enumerate((depths[1:] + depths[:-1]) / 2):
        made = isost.tl.section(stack, model=model, z=float(middle), seed=seed)
        cells = made.obsm["spatial"]
        wanted = truth.expected_expression(cells)
        linear = sum(
            neighbor_mean(part.obsm["spatial"], part.X.toarray().astype(float), cells[:, :2]) / 2
            for part in sections[k : k + 2]
        )
        outside, uncovered = surface(truth, cells, middle)
        cut = truth.cells_at(float(middle), made.n_obs, seed=seed).obsm["spatial"]
        really = surface(truth, np.column_stack([cut, np.full(len(cut), middle)]), middle)[1]
        rows.append(
            {
                "seed": seed,
                "z": middle,
                "error": error(made.layers["mean"], wanted),
                "linear": error(linear, wanted),
                "cells outside": np.mean(outside > 0),
                "at most": outside.max() / spacing,
                "edge to cell": np.median(uncovered) / spacing,
                "(95 %)": np.quantile(uncovered, 0.95) / spacing,
                "really": np.median(really) / spacing,
                "really (95 %)": np.quantile(really, 0.95) / spacing,
            }
        )
    table = pd.DataFrame(rows)
    table.insert(4, "less by", 1 - table["error"] / table["linear"])
    return table


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(((found - wanted) ** 2).mean()))


def surface(truth: isost.datasets.Organ, cells: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance of cells outside the tissue to it (0 inside), and of the tissue's edge in this section to its cells."""
    outside = np.where(truth.inside(cells), 0.0, np.abs(truth.surface_distance(cells)))
    axes = [np.arange(low, high, 1.0) for low, high in zip(cells.min(0)[:2] - 20, cells.max(0)[:2] + 20, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = truth.inside(np.column_stack([grid.reshape(-1, 2), np.full(grid[..., 0].size, z)])).reshape(grid.shape[:2])
    edge = inside & ~(np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1))
    return outside, cKDTree(cells[:, :2]).query(grid[edge])[0]


if __name__ == "__main__":
    main()
