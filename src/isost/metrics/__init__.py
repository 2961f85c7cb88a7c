"""Scores of a generated section against the measured one, and simple baselines to hold them against."""

from __future__ import annotations

from ._baselines import BASELINES, RANDOM_BASELINES, BaselineName, baseline
from ._energy import energy_distance
from ._registration import Registration, registration
from ._scores import (
    LOWER_IS_BETTER,
    ONE_IS_BEST,
    agree,
    d_moran,
    energy,
    n_ratio,
    per_gene,
    r_cell,
    r_density,
    r_voxel,
    score,
    var_ratio,
)
from ._section import Section
from ._spatial import local_linear, morans_i, neighbor_mean

__all__ = [
    "BASELINES",
    "LOWER_IS_BETTER",
    "ONE_IS_BEST",
    "RANDOM_BASELINES",
    "BaselineName",
    "Registration",
    "Section",
    "agree",
    "baseline",
    "d_moran",
    "energy",
    "energy_distance",
    "local_linear",
    "morans_i",
    "n_ratio",
    "neighbor_mean",
    "per_gene",
    "r_cell",
    "r_density",
    "r_voxel",
    "registration",
    "score",
    "var_ratio",
]
