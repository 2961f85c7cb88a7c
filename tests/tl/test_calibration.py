from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd

import isost
from isost.generation import cell_variance
from isost.tl import _calibration
from isost.tl._calibration import choose_gap_variance
from isost.tl._inputs import Sections
from isost.training import left_out_displacements

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMOOTHING = {"n_cells": 30, "adaptive": False}


def _sections(offsets: NDArray[np.float64], *, steepness: float = 0.0, seed: int = 0) -> list[ad.AnnData]:
    """Sections of one tissue; the expression of each gene is shifted as a whole by a number of its own."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, offset in enumerate(offsets):
        place = rng.random((600, 2)) * 100
        pattern = np.sin(place[:, :1] / 15 + np.arange(8)) + steepness * k
        X = (pattern + offset + 0.5 * rng.normal(size=(600, 8))).astype(np.float32)
        part = ad.AnnData(X, var=pd.DataFrame(index=[f"g{i}" for i in range(8)]))
        part.obsm["spatial"], part.obs["z"] = place, 20.0 * k
        parts.append(part)
    return parts


def _factor(parts: list[ad.AnnData]) -> float:
    stack = isost.pp.slice_stack(parts)
    sections = Sections(stack)
    loadings = stack.varm["PCs"]
    components = sections.components(loadings)
    own = cell_variance(sections.positions, components, **SMOOTHING)
    return choose_gap_variance(
        stack,
        sections,
        loadings,
        np.random.default_rng(0),
        left_out_displacements(sections.positions),
        mean_shift=0.0,
        component_variance=np.concatenate(list(components)).var(axis=0),
        cell_variance=own,
        **SMOOTHING,
    )


def test_sections_that_wander_need_more_than_those_that_drift_steadily() -> None:
    wandering = _factor(_sections(np.cumsum(np.random.default_rng(3).normal(size=(9, 8)) * 0.6, axis=0)))
    steady = _factor(_sections(np.zeros((9, 8)), steepness=0.6))
    assert steady < 0.1 * wandering


def test_two_sections_give_no_evidence() -> None:
    assert _factor(_sections(np.zeros((2, 8)))) == 1.0


def test_sections_without_a_common_place_give_no_evidence() -> None:
    parts = _sections(np.zeros((3, 8)))
    parts[1].obsm["spatial"] = parts[1].obsm["spatial"] + 1e4
    assert _factor(parts) == 1.0


def test_intervals_cover_what_they_say() -> None:
    rng = np.random.default_rng(5)
    parts = _sections(np.cumsum(rng.normal(size=(9, 8)) * 0.4, axis=0), seed=1)
    stack = isost.pp.slice_stack([part for k, part in enumerate(parts) if k % 2 == 0])
    model = isost.tl.fit(stack, epochs=1, hidden_dim=8, progress=False, **SMOOTHING)
    held = []
    for part in parts[1::2]:
        made = isost.tl.section(stack, model=model, z=float(part.obs["z"].iloc[0]))
        bins = [np.floor(p[:, :2] / 12).astype(int) @ [100, 1] for p in (part.obsm["spatial"], made.obsm["spatial"])]
        for which in np.intersect1d(*bins):
            here, there = (own == which for own in bins)
            if here.sum() >= 4 and there.sum() >= 4:
                spread = made.X[there].var(axis=0, ddof=1) / here.sum()
                half = 1.645 * np.sqrt((made.layers["std"][there] ** 2).mean(0) + spread)
                held.append(np.abs(made.layers["mean"][there].mean(0) - part.X[here].mean(0)) <= half)
    assert 0.82 < np.mean(held) < 0.97


def test_bins_are_taken_evenly_where_they_are_many() -> None:
    bins = _calibration._Bins(*np.arange(4 * 10 * 2.0).reshape(4, 10, 2))
    for at_most, kept in ((10, range(10)), (9, range(0, 10, 2)), (3, range(0, 10, 4))):
        for found, column in zip(_calibration._spread(bins, at_most=at_most), bins, strict=True):
            np.testing.assert_array_equal(found, column[list(kept)])
