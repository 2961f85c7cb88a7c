"""Losses, objectives, schedule, loop and checkpoints. No AnnData."""

from __future__ import annotations

from ._bridge import BridgeObjective, initialize_drift
from ._checkpoint import load_checkpoint, save_checkpoint
from ._expression_shift import choose_expression_shift, left_out_displacements
from ._loop import LoopSettings, Objective, Progress, WeightGroup, optimize
from ._nearest import expression_loss
from ._paths import Displacements, Paths, path_width, section_displacements, section_paths
from ._schedule import BetaSchedule, Phase, phases
from ._sinkhorn import debiased_displacements, sinkhorn_divergence
from ._tiles import sampled_tiles, spatial_tiles
from ._trajectory import TrajectoryObjective, TrajectorySettings

__all__ = [
    "BetaSchedule",
    "BridgeObjective",
    "Displacements",
    "LoopSettings",
    "Objective",
    "Paths",
    "Phase",
    "Progress",
    "TrajectoryObjective",
    "TrajectorySettings",
    "WeightGroup",
    "choose_expression_shift",
    "debiased_displacements",
    "expression_loss",
    "initialize_drift",
    "left_out_displacements",
    "load_checkpoint",
    "optimize",
    "path_width",
    "phases",
    "sampled_tiles",
    "save_checkpoint",
    "section_displacements",
    "section_paths",
    "sinkhorn_divergence",
    "spatial_tiles",
]
