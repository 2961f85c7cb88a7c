"""What each part of the default contributes: scores of left-out sections with one part changed at a time.

    OMP_NUM_THREADS=1 python benchmarks/ablation.py                                  # the synthetic organ
    OMP_NUM_THREADS=1 python benchmarks/ablation.py merfish bdtnp synovium           # measured, from ISOST_TEST_DATA
    OMP_NUM_THREADS=1 python benchmarks/ablation.py a.h5ad b.h5ad … --hold-out 1 3   # one's own sections

The sections named are left out together, everything is chosen from the others, and the sections generated at their
depths are scored as `isost.tl.evaluate` does. `--only` names rows; the published objective is slow and runs on demand:
`--only trajectory`, and so do networks in bfloat16: `--only bfloat16`.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import isost
from isost.field import systematic_sample
from isost.metrics import Section, score
from isost.tl import _section
from isost.training import _paths

isost.settings.progress = False

MEASURED = {  # file, sections left out, whether to take log1p
    "merfish": ("merfish_hypothalamus_poa_5sections", [1, 3], True),
    "bdtnp": ("drosophila_bdtnp_stage5", list(range(1, 19, 2)), False),
    "synovium": ("ra_synovium_RA2_3dst", [1, 3, 5], False),
}
MOST_GENES = 500  # of spot data: those that vary most over the sections that are not left out
METRICS = ["r_cell", "r_voxel", "r_density", "energy", "d_moran", "var_ratio", "n_ratio", "agree"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="names of measured sets, or files with one section each")
    parser.add_argument("--hold-out", type=int, nargs="+", help="numbers of sections in z order, from 0")
    parser.add_argument("--only", nargs="+", choices=[*VARIANTS, *ON_DEMAND])
    parser.add_argument("--seeds", type=int, default=3, help="generated sections to average over")
    options = parser.parse_args()
    names = options.only or list(VARIANTS)
    for name, sections, held in given(options.data, options.hold_out):
        print(f"\n{name}: {len(sections)} sections, left out {held}\n", flush=True)
        print(f"| | {' | '.join(METRICS)} | s |\n|---|{'---|' * (len(METRICS) + 1)}", flush=True)
        stack = isost.pp.slice_stack([s for k, s in enumerate(sections) if k not in held])
        default: list[isost.IsoST] = []
        for row in names:
            start = time.perf_counter()
            made = (VARIANTS | ON_DEMAND)[row](stack, default)
            scores = pd.DataFrame(
                [
                    score(
                        generated(made(float(sections[k].obs["z"].iloc[0]), seed), sections[k]), measured(sections[k])
                    )
                    for k in held
                    for seed in range(options.seeds)
                ]
            ).mean()
            seconds = time.perf_counter() - start
            print(f"| {row} | {' | '.join(f'{scores[m]:.4f}' for m in METRICS)} | {seconds:.0f} |", flush=True)


# A variant takes the stack, and the default model once there is one, and returns what generates a section.
Generate = Callable[[float, int], ad.AnnData]


def generate(stack: ad.AnnData, model: isost.IsoST) -> Generate:
    return lambda z, seed: isost.tl.section(stack, model=model, z=z, seed=seed)


def default(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
    if not kept:
        kept.append(isost.tl.fit(stack, seed=0))
    return generate(stack, kept[0])


def fitted(**kws: Any) -> Callable[..., Generate]:
    return lambda stack, kept: generate(stack, isost.tl.fit(stack, seed=0, **kws))


def without_drift(part: str) -> Callable[..., Generate]:
    """The default model with one of its two drifts set to zero."""

    def variant(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
        default(stack, kept)
        model = copy.deepcopy(kept[0])
        with torch.no_grad():
            for drift in model.drifts.values():
                last = drift.shape.layers[-1] if part == "shape" else drift.expression.up[-1]
                for weight in last.parameters():
                    weight.zero_()
        return generate(stack, model)

    return variant


def with_settings(**changed: Any) -> Callable[..., Generate]:
    """The default model, used in another way."""

    def variant(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
        default(stack, kept)
        model = copy.copy(kept[0])
        model.settings = dataclasses.replace(model.settings, **changed)
        return generate(stack, model)

    return variant


def noise(factor: float) -> Callable[..., Generate]:
    """Noise of x and y that adds up to some spacings of cells over half a median gap."""

    def variant(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
        state = stack.obsm["X_isost"]
        spacing = 1 / np.sqrt(len(state) / stack.obs["section"].nunique())
        sigma = float(factor * spacing / np.sqrt(0.05))
        return with_settings(sigma=(sigma, sigma, 0.0, 0.0))(stack, kept)

    return variant


def systematic(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
    """Cells drawn evenly along a curve, whatever they express."""

    def draw(position: Any, weights: Any, values: Any, *, generator: Any, **_: Any) -> Any:
        return systematic_sample(position, weights, generator=generator)

    made = default(stack, kept)

    def patched(z: float, seed: int) -> ad.AnnData:
        with mock.patch.object(_section, "balanced_sample", draw):
            return made(z, seed)

    return patched


def transport(**constants: float) -> Callable[..., Generate]:
    """Other lengths in the transport between sections."""

    def variant(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
        with mock.patch.multiple(_paths, **constants):
            return fitted()(stack, kept)

    return variant


def expression_in_cost(weight: float) -> Callable[..., Generate]:
    """Cells paired by expression too: ten components beside the position, their spread `weight` of the width."""
    plain = _paths.debiased_displacements

    def variant(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
        state = torch.as_tensor(stack.obsm["X_isost"])
        components = state[:, 3:13] * (weight / state[:, 3].std())
        rows = {tuple(place): i for i, place in enumerate(state[:, :2].tolist())}

        def paired(lower: torch.Tensor, upper: torch.Tensor, **kws: Any) -> Any:
            both = [
                torch.cat([part, components[[rows[tuple(place)] for place in part.tolist()]]], dim=1)
                for part in (lower, upper)
            ]
            return [moved[:, :2] for moved in plain(*both, **kws)]

        with mock.patch.object(_paths, "debiased_displacements", paired):
            return fitted()(stack, kept)

    return variant


def in_bfloat16(stack: ad.AnnData, kept: list[isost.IsoST]) -> Generate:
    """Networks that are trained and used in bfloat16."""
    lower = mock.patch.object(isost.settings, "precision", "bfloat16")
    with lower:
        made = fitted()(stack, kept)

    def patched(z: float, seed: int) -> ad.AnnData:
        with lower:
            return made(z, seed)

    return patched


VARIANTS: dict[str, Callable[..., Generate]] = {
    "default": default,
    "shape drift zero": without_drift("shape"),
    "expression drift zero": without_drift("expression"),
    "noise of one spacing": noise(1.0),
    "cells drawn systematically": systematic,
    "mean: same window everywhere": fitted(adaptive=False),
    "mean: the stack's components": fitted(n_mean_comps=1),
    "pairing: finer (blur .02)": transport(_BLUR=0.02),
    "pairing: coarser (blur .1)": transport(_BLUR=0.1),
    "pairing: displacement of 100 cells": transport(_SMOOTHED_OVER=100),
    "pairing: expression in the cost": expression_in_cost(0.05),
    "networks: width 32": fitted(hidden_dim=32),
    "networks: one pooling": fitted(unet_depth=1),
}
ON_DEMAND: dict[str, Callable[..., Generate]] = {
    "trajectory": fitted(objective="trajectory", hidden_dim=64),
    "bfloat16": in_bfloat16,
}


def given(data: list[str], hold_out: list[int] | None) -> Iterator[tuple[str, list[ad.AnnData], list[int]]]:
    if not data:
        yield "organ", isost.datasets.organ(), hold_out or [1, 3, 5]
    elif data[0] in MEASURED:
        for name in data:
            yield name, *measured_set(name)
    else:
        sections = sorted((ad.read_h5ad(path) for path in data), key=lambda s: float(s.obs["z"].iloc[0]))
        yield Path(data[0]).parent.name or "sections", sections, hold_out or list(range(1, len(sections) - 1, 2))


def measured_set(name: str) -> tuple[list[ad.AnnData], list[int]]:
    file, held, log = MEASURED[name]
    whole = ad.read_h5ad(Path(os.environ["ISOST_TEST_DATA"]) / f"{file}.h5ad")
    X = dense(whole.X)
    X = np.log1p(X) if log else X
    names = list(whole.obs["section"].cat.categories)
    if X.shape[1] > 2 * MOST_GENES:
        seen = ~whole.obs["section"].isin([names[k] for k in held]).to_numpy()
        genes = np.sort(np.argsort(-X[seen].var(axis=0))[:MOST_GENES])
        whole, X = whole[:, genes], X[:, genes]
    sections = []
    for section in names:
        rows = (whole.obs["section"] == section).to_numpy()
        place = np.asarray(whole.obsm["spatial3d"], dtype=float)[rows]
        part = ad.AnnData(X[rows].astype(np.float32), var=pd.DataFrame(index=whole.var_names))
        part.obsm["spatial"], part.obs["z"] = place[:, :2], place[:, 2].mean()
        sections.append(part)
    return sections, held


def generated(made: ad.AnnData, like: ad.AnnData) -> Section:
    made = made[:, like.var_names]
    return Section(made.obsm["spatial"], dense(made.X), made.layers["mean"])


def measured(section: ad.AnnData) -> Section:
    return Section(section.obsm["spatial"], dense(section.X))


def dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if sp.issparse(values) else values, dtype=float)


if __name__ == "__main__":
    main()
