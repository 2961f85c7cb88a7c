from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from isost.pp import _matrix, _pca
from isost.pp._pca import GenePCA


def z_scores(X):
    std = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(std == 0, 1, std)


def exact_loadings(X, n_comps):
    """By definition: right singular vectors of the z-scores."""
    V = np.linalg.svd(z_scores(X), full_matrices=False)[2][:n_comps].T
    return V * np.sign(V[np.abs(V).argmax(axis=0), np.arange(n_comps)])


def random_expression(seed, n=120, n_genes=15):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, 4)) @ rng.normal(size=(4, n_genes))
    return np.maximum(factors + 0.5 * rng.normal(size=(n, n_genes)), 0)


@pytest.mark.parametrize("many_genes", [2000, 3])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_singular_vectors_of_z_scores(monkeypatch, seed, container, many_genes):
    monkeypatch.setattr(_pca, "MANY_GENES", many_genes)
    X = random_expression(seed)
    pca = GenePCA.fit(container(X), n_comps=6)
    truth = exact_loadings(X, 6)
    np.testing.assert_allclose(pca.loadings, truth, atol=2e-6)
    np.testing.assert_allclose(pca.scores(container(X)), z_scores(X) @ truth, atol=2e-5)
    np.testing.assert_allclose(pca.mean, X.mean(axis=0))
    np.testing.assert_allclose(pca.scale, X.std(axis=0))


def test_float32_and_whole_numbers_are_close_to_float64():
    X = np.round(random_expression(3) * 3)
    truth = GenePCA.fit(X, n_comps=5)
    for dtype in (np.float32, np.int32, np.int64):
        np.testing.assert_allclose(GenePCA.fit(X.astype(dtype), n_comps=5).loadings, truth.loadings, atol=1e-4)


def test_blocks_of_rows_do_not_matter(monkeypatch):
    X = random_expression(4).astype(np.float32)
    whole = GenePCA.fit(X, n_comps=5)
    scores = whole.scores(X)
    monkeypatch.setattr(_matrix, "BLOCK", 7)
    parts = GenePCA.fit(X, n_comps=5)
    np.testing.assert_allclose(parts.scale, whole.scale, rtol=1e-10)
    np.testing.assert_allclose(parts.loadings, whole.loadings, atol=1e-6)
    np.testing.assert_allclose(whole.scores(X), scores, atol=1e-10)


@pytest.mark.parametrize(("n", "n_genes", "wanted", "given"), [(40, 8, 50, 8), (6, 30, 50, 5), (40, 30, 12, 12)])
@pytest.mark.parametrize("many_genes", [2000, 3])
def test_number_of_components(monkeypatch, caplog, n, n_genes, wanted, given, many_genes):
    monkeypatch.setattr(_pca, "MANY_GENES", many_genes)
    caplog.set_level("INFO", logger="isost")
    pca = GenePCA.fit(random_expression(0, n, n_genes), n_comps=wanted)
    assert pca.loadings.shape == (n_genes, given)
    np.testing.assert_allclose(pca.loadings.T @ pca.loadings, np.eye(given), atol=1e-5)
    assert ("components instead of" in caplog.text) == (given < wanted)


def test_gene_that_does_not_vary_has_scale_one_and_no_weight():
    X = random_expression(5)
    X[:, 3] = 0.1
    pca = GenePCA.fit(X, n_comps=5)
    assert pca.scale[3] == 1
    np.testing.assert_allclose(pca.loadings[3], 0, atol=1e-6)


def test_same_seed_same_answer(monkeypatch):
    monkeypatch.setattr(_pca, "MANY_GENES", 3)
    X = sparse.csr_matrix(random_expression(6))
    np.testing.assert_array_equal(
        GenePCA.fit(X, seed=1, n_comps=4).loadings, GenePCA.fit(X, seed=1, n_comps=4).loadings
    )


def test_sparse_is_never_dense():
    X = sparse.random(60_000, 400, density=0.01, format="csr", dtype=np.float32, random_state=0)
    GenePCA.fit(X[:1000], n_comps=10)  # what sklearn loads on first use is not counted
    tracemalloc.start()
    GenePCA.fit(X, n_comps=10).scores(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * X.shape[0] * X.shape[1] * 4


def test_no_points_have_no_scores():
    pca = GenePCA.fit(np.eye(4), n_comps=2)
    assert pca.scores(np.empty((0, 4))).shape == (0, 2)
