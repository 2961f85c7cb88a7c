from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import isost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

N_COMPS = 4


@pytest.fixture(scope="session")
def stack() -> AnnData:
    """Three small sections of the synthetic organ; shared by all tests, so none may change it."""
    organ = isost.datasets.organ(n_sections=3, cells_per_section=60, n_genes=20, uneven=True)
    return isost.pp.slice_stack(organ, n_comps=N_COMPS)


@pytest.fixture(scope="session")
def names(stack: AnnData) -> list[str]:
    return list(stack.obs["section"].cat.categories)


@pytest.fixture
def slides(stack: AnnData, tmp_path: Path) -> Path:
    """The stack's sections as the published program has them."""
    isost.compat.write_stack(stack, tmp_path / "data", subsets=[2])
    return tmp_path / "data"


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Write a config that trains quickly, with some keys changed, and return its path."""

    def write(name: str = "config.yml", *, trainer: str = "IsoST", **changed: Any) -> Path:
        params = {
            "gene_dim": N_COMPS,
            "hidden_dim": 8,
            "delta_d": 0.05,
            "std_x": 0.01,
            "std_y": 0.01,
            "std_z": 0.1,
            "std_seq": 0.1,
            "stride": 1,
            "lr": 0.01,
            "optimizer_name": "NAdam",
            "weight_decay": "1e-8",
        } | changed
        path = tmp_path / name
        path.write_text(yaml.safe_dump({"trainer": trainer, "params": params}), encoding="utf-8")
        return path

    return write


@pytest.fixture
def quick(slides: Path, names: list[str], write_config: Callable[..., Path]) -> dict[str, Any]:
    """Arguments of a short training of all three phases."""
    return {
        "data_dir": slides,
        "slide_names": names,
        "config_file": write_config(),
        "checkpoint_every": 2,
        "epoch": [3, 2, 2],
        "progress": False,
    }


@pytest.fixture
def published_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of random sections as the published program's users have them: nothing but tensors and CSVs."""

    def write(
        depths: dict[str, float], *, n_comps: int = N_COMPS, n_points: int = 40, prefix: str = "", seed: int = 0
    ) -> Path:
        folder = tmp_path / f"published_{seed}_{prefix}"
        folder.mkdir()
        generator = torch.Generator().manual_seed(seed)
        for name, z in depths.items():
            state = torch.rand(n_points, 3 + n_comps, generator=generator)
            state[:, 2] = z
            torch.save(state, folder / f"{prefix}{name}.pt")
        random = np.random.default_rng(seed)
        pcs = [f"PC_{i + 1}" for i in range(n_comps)]
        low = pd.DataFrame([[3.0, -2.0, *random.normal(size=n_comps)]], columns=["x", "y", *pcs])
        low.to_csv(folder / "min_dic.csv", index=False)
        scale = pd.DataFrame([[2.5, *random.uniform(1, 5, n_comps)]], columns=["xy", *pcs])
        scale.to_csv(folder / "scale_dic.csv", index=False)
        return folder

    return write


@pytest.fixture(scope="session")
def plain_volume() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The published volume, by a loop over points that shares nothing with isost."""

    def average(
        frames: list[np.ndarray],
        low: pd.DataFrame,
        scale: pd.DataFrame,
        size: tuple[float, float, float],
        max_lence: int,
        *,
        z_scale: float | None = None,
        swamp: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        cube = 1 / max_lence
        shape = [math.ceil(extent / cube) for extent in size]
        n_comps = frames[0].shape[1] - 3
        sums, count = np.zeros((*shape, n_comps)), np.zeros(shape)
        for frame in frames:
            for point in frame:
                x, y, z = point[0], point[1], point[2]
                z = np.float32(z / scale["xy"][0]) if z_scale is None else z / np.float32(z_scale)
                place = (z, y, x) if swamp else (x, y, z)
                index = tuple(math.floor(value / np.float32(cube)) for value in place)
                if all(0 <= i < n for i, n in zip(index, shape, strict=True)):
                    for j in range(n_comps):
                        sums[*index, j] += point[3 + j] * scale[f"PC_{j + 1}"][0] + low[f"PC_{j + 1}"][0]
                    count[index] += 1
        with np.errstate(invalid="ignore"):
            return np.where(count[..., None] > 0, sums / count[..., None], np.nan), count

    return average
