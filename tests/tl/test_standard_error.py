from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from isost.generation import Expected
from isost.tl._standard_error import gene_variance, spread_around


@pytest.mark.parametrize("sparse", [False, True])
def test_spread_is_the_unbiased_weighted_variance(sparse: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.poisson(1.0, (50, 3)).astype(np.float32)
    rows = np.stack([rng.permutation(50)[:10] for _ in range(4)])
    weights = sp.csr_array((np.full(40, 0.1), rows.ravel(), np.arange(0, 41, 10)), shape=(4, 50))
    wanted = X[rows].var(axis=1, ddof=1)
    wanted = (wanted + 0.1 * wanted.mean(0)) / 1.1
    np.testing.assert_allclose(spread_around(sp.csr_matrix(X) if sparse else X, weights), wanted, rtol=1e-6)


def _expected(**parts: Any) -> Expected:
    rng = np.random.default_rng(1)
    n, C = 6, 3
    kws = {"mean": rng.normal(size=(n, C)), "variance": np.ones((n, C)), "leverage": rng.random(n)}
    kws |= {"apart": rng.normal(size=(n, C)), "apart_leverage": np.zeros(n), "bridge": 0.25}
    return Expected(**(kws | parts))


def test_variance_of_a_gene_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(2)
    loadings, scale, spread = rng.normal(size=(4, 3)), rng.random(4), rng.random((6, 4))
    expected = _expected(apart_leverage=np.full(6, 0.01))
    sampling, between = gene_variance(expected, spread, loadings, scale)
    for i in range(6):
        for g in range(4):
            assert sampling[i, g] == pytest.approx(expected.leverage[i] * spread[i, g])
    difference = (expected.apart @ loadings.T * scale) ** 2 - 0.01 * spread
    wanted = 0.25 * (difference.clip(min=0) + difference.mean(0).clip(min=0)) / 2
    np.testing.assert_allclose(between, wanted, rtol=1e-5)


def test_at_a_section_nothing_happens_between() -> None:
    between = gene_variance(_expected(bridge=0.0), np.ones((6, 4)), np.ones((4, 3)), np.ones(4))[1]
    assert not between.any()


def test_where_a_gene_is_silent_little_can_go_wrong() -> None:
    spread = np.array([[0.0, 1.0]] * 6)
    sampling, _ = gene_variance(_expected(), spread, np.ones((2, 3)), np.ones(2))
    assert (sampling[:, 0] == 0).all()
    assert (sampling[:, 1] > 0).all()
