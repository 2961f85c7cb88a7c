from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from isost.datasets._counts import draw_counts, expected_log1p, log_normalize

TARGET = 100.0


@pytest.fixture(scope="module")
def shares() -> np.ndarray:
    shares = np.geomspace(1, 1e-4, 12)
    return shares / shares.sum()


@pytest.fixture(scope="module")
def counts(shares) -> np.ndarray:
    return draw_counts(np.tile(shares, (40_000, 1)), target_sum=TARGET, rng=np.random.default_rng(0))


def test_totals_vary_around_the_target(counts):
    totals = counts.sum(axis=1)
    assert np.median(totals) == pytest.approx(TARGET, rel=0.02)
    assert np.log(totals).std() == pytest.approx(0.3, rel=0.05)


def test_counts_are_overdispersed_as_documented(counts, shares):
    # law of total variance: beta-binomial within a total, binomial mean between totals
    totals = counts.sum(axis=1)
    within = (totals * (totals + TARGET)).mean() / (TARGET + 1) * shares * (1 - shares)
    variance = within + totals.var() * shares**2
    common = shares > 1e-3  # the variance of rarer genes hangs on a few cells
    np.testing.assert_allclose(counts.var(axis=0)[common], variance[common], rtol=0.1)
    assert (counts.var(axis=0)[common] > 1.4 * counts.mean(axis=0)[common]).all()


def test_normalised_counts_are_sparse_and_of_one_total(counts):
    X = log_normalize(counts[:100], target_sum=TARGET)
    assert isinstance(X, sp.csr_matrix)
    assert X.dtype == np.float32
    assert X.nnz == (counts[:100] > 0).sum()
    np.testing.assert_allclose(np.expm1(X.toarray()).sum(axis=1), TARGET, rtol=1e-5)


def test_expected_log1p_is_the_mean_of_many_draws(counts, shares):
    X = log_normalize(counts, target_sum=TARGET).toarray().astype(np.float64)
    error = X.std(axis=0) / np.sqrt(len(X))
    expected = expected_log1p(np.log(shares), target_sum=TARGET)
    assert (np.abs(X.mean(axis=0) - expected) < 4.5 * error + 3e-4).all()


def test_expected_log1p_rises_with_the_share_and_ends_at_nothing_and_all():
    means = expected_log1p(np.linspace(-30, 0, 200), target_sum=TARGET)
    assert (np.diff(means) >= -1e-12).all()
    assert means[0] < 1e-4
    assert means[-1] == pytest.approx(np.log1p(TARGET), rel=0.02)
