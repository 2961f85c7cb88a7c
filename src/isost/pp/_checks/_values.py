from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from isost.pp._matrix import is_integer_valued

from ._look import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ._look import Look

__all__ = ["batches", "counts", "missing_genes"]

_HIGHEST_LOG = 25.0  # log2 of one in thirty million: no logged expression is higher
_LACKING = 0.5  # of the genes that all others share
_FEWEST_GENES = 30  # with fewer, the median is that of a few cell types
_SHIFT = 0.12  # of a gene's standard deviation, median over genes
_SHIFT_AT_END = 0.2
_STEP = 2.0  # times the largest step elsewhere
_NOISE = 1.5  # variances of a mean: more than three times the median square that chance gives
_LOG = "call scanpy.pp.normalize_total and scanpy.pp.log1p first, or pass layer="


def counts(look: Look) -> Iterator[Finding]:
    """Find expression that is raw or not logged. Number: its largest value."""
    ends = [(float(X.min()), float(X.max()), is_integer_valued(X)) for X in look.expression]
    smallest, largest, whole = (np.array(part) for part in zip(*ends, strict=True))
    whole &= largest > 0
    if whole.all():
        message = "all expression values are whole numbers: raw counts? Log-normalised expression is expected"
        yield Finding("warning", "", "counts", largest.max(), message, _LOG)
        return
    unlogged = (smallest >= 0) & (largest > _HIGHEST_LOG)
    if unlogged.all():
        message = f"expression goes up to {largest.max():g}: not logged? Log-normalised expression is expected"
        yield Finding("warning", "", "counts", largest.max(), message, _LOG)
        return
    for k in np.flatnonzero(whole | unlogged).tolist():
        message = (
            f"expression of {look.names[k]!r} looks raw or not logged (up to {largest[k]:g}), that of others does not"
        )
        yield Finding("warning", look.names[k], "counts", largest[k], message, "prepare all sections in the same way")


def missing_genes(look: Look) -> Iterator[Finding]:
    """Find sections that lack genes which all others share. Number: the share of these that it lacks."""
    if look.genes_named:
        return
    occurs = pd.Index(np.concatenate(look.genes)).value_counts()
    everywhere = occurs.index[occurs == len(look.genes)]
    all_but_one = occurs.index[occurs == len(look.genes) - 1]
    for name, genes in zip(look.names, look.genes, strict=True):
        lacks = len(all_but_one.difference(genes))
        share = lacks / max(lacks + len(everywhere), 1)
        if share > _LACKING:
            message = f"{name!r} lacks {lacks} of the {lacks + len(everywhere)} genes that all other sections share"
            advice = "only shared genes are used: look whether the names are of one kind, or leave this section out"
            yield Finding("warning", name, "genes", share, message, advice)


def batches(look: Look) -> Iterator[Finding]:
    """Find sections whose mean profile stands out. Number: its shift in standard deviations, median over genes.

    A profile that changes smoothly with depth lies nearer to that interpolated between its neighbours than these are
    to each other. An end section has one neighbour: the step to it must be twice as large as any other. Of the genes
    the median counts: what shifts most of them is seldom a change of cell types.
    """
    if look.profiles[0].shape[1] < _FEWEST_GENES:
        return
    means = np.array([profile.mean(0) for profile in look.profiles])
    variance = np.array([(profile.var(0) / len(profile)).mean() for profile in look.profiles])
    steps = np.array([_apart(means[k] - means[k + 1], variance[k] + variance[k + 1]) for k in range(len(means) - 1)])
    for k, name in enumerate(look.names):
        shift = _inner_shift(look.z, means, variance, k) if 0 < k < len(means) - 1 else _end_shift(look.z, steps, k)
        if shift:
            yield Finding(
                "warning",
                name,
                "batch",
                shift,
                f"the mean profile of {name!r} stands out against those around by {shift:.2g} standard deviations",
                "look whether it was normalised as the others were; correct the batch, or leave the section out",
            )


def _apart(difference: NDArray[np.float64], variance: float) -> float:
    """Median size of a difference of means, above what chance explains."""
    return float(np.sqrt(max(0.0, np.median(difference**2) - _NOISE * variance)))


def _inner_shift(z: NDArray[np.float64], means: NDArray[np.float64], variance: NDArray[np.float64], k: int) -> float:
    t = (z[k] - z[k - 1]) / (z[k + 1] - z[k - 1])
    between = (1 - t) * means[k - 1] + t * means[k + 1]
    shift = _apart(means[k] - between, variance[k] + (1 - t) ** 2 * variance[k - 1] + t**2 * variance[k + 1])
    around = float(np.median(np.abs(means[k + 1] - means[k - 1])))
    return shift if shift > max(_SHIFT, around) else 0.0


def _end_shift(z: NDArray[np.float64], steps: NDArray[np.float64], k: int) -> float:
    own = 0 if k == 0 else len(steps) - 1
    others, gaps = np.delete(steps, own), np.diff(z)
    if not len(others):
        return 0.0
    longer = max(1.0, gaps[own] / np.median(np.delete(gaps, own)))
    return float(steps[own]) if steps[own] > max(_SHIFT_AT_END, _STEP * longer * others.max()) else 0.0
