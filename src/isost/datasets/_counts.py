"""Counts of a cell, given each gene's share of its expression, and the exact mean of what becomes of them.

A cell's total is log-normal; given the total, its counts are Dirichlet-multinomial, which is what negative binomials of
one scale are given their sum (Johnson, Kotz & Balakrishnan 1997, Discrete Multivariate Distributions, ch. 35). With the
target sum as concentration, a gene's variance is about twice its mean or more, and the count of a gene of share π given
the total C is beta-binomial: expectations need one sum for each π and C.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.interpolate import CubicSpline
from scipy.special import ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._shape import Floats

__all__ = ["draw_counts", "expected_log1p", "log_normalize"]

_TOTAL_SIGMA = 0.3  # of a cell's log total
_N_QUANTILES = 48  # equally likely totals that stand for all
_LOG_SHARES = np.linspace(-16.0, -0.05, 96)  # nodes of the table


def draw_counts(shares: Floats, *, target_sum: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Integer counts (n, genes) of cells with the expression shares (n, genes); median total `target_sum`."""
    totals = _whole(target_sum * np.exp(_TOTAL_SIGMA * rng.normal(size=len(shares))))
    gammas = rng.standard_gamma(target_sum * shares)
    return rng.multinomial(totals, gammas / gammas.sum(axis=1, keepdims=True))


def log_normalize(counts: NDArray[np.int64], *, target_sum: float) -> sp.csr_matrix:
    """log(1 + counts · target_sum / the cell's total), sparse float32."""
    scaled = counts * (target_sum / counts.sum(axis=1, keepdims=True))
    return sp.csr_matrix(np.log1p(scaled), dtype=np.float32)


def expected_log1p(log_shares: Floats, *, target_sum: float) -> Floats:
    """Mean of `log_normalize` over `draw_counts`, elementwise, for the logs of the expression shares.

    Beta-binomial sums over all counts, averaged over 48 equally likely totals, tabulated at 96 shares and joined by a
    cubic spline: within 3e-4 of the sum over every total.
    """
    means: Floats = _table(target_sum)(np.clip(log_shares, _LOG_SHARES[0], _LOG_SHARES[-1]))
    return means


def _whole(totals: Floats) -> NDArray[np.int64]:
    return np.maximum(np.rint(totals), 1).astype(np.int64)


@lru_cache(maxsize=8)
def _table(target_sum: float) -> CubicSpline:
    middles = (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES
    totals = _whole(target_sum * np.exp(_TOTAL_SIGMA * ndtri(middles)))
    shares = np.exp(_LOG_SHARES)
    means = np.mean([_mean_given_total(shares, int(total), target_sum) for total in totals], axis=0)
    return CubicSpline(_LOG_SHARES, means)


def _mean_given_total(shares: Floats, total: int, target_sum: float) -> Floats:
    from scipy.stats import betabinom

    counts = np.arange(total + 1)
    alpha = target_sum * shares[:, None]
    chances = betabinom.pmf(counts, total, alpha, target_sum - alpha)
    means: Floats = chances @ np.log1p(counts * (target_sum / total))
    return means
