from __future__ import annotations

import numpy as np
import pytest

from isost.field import _components, complementary_components


def orthonormal(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, k)))[0]


@pytest.mark.parametrize("many_genes", [2000, 10])
def test_orthonormal_and_orthogonal_to_the_known(many_genes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_components, "_MANY_GENES", many_genes)
    known = orthonormal(30, 5)
    smoothed = np.random.default_rng(1).normal(size=(200, 30))
    found = complementary_components(smoothed, known, n_comps=8)
    both = np.c_[known, found]
    np.testing.assert_allclose(both.T @ both, np.eye(13), atol=1e-10)


@pytest.mark.parametrize("many_genes", [2000, 10])
def test_the_leading_one_is_the_largest_spatial_pattern_left(many_genes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_components, "_MANY_GENES", many_genes)
    axes = orthonormal(20, 20)
    known, pattern = axes[:, :3], axes[:, 7]
    rng = np.random.default_rng(2)
    smoothed = 10 * rng.normal(size=(300, 3)) @ known.T + 3 * rng.normal(size=(300, 1)) * pattern
    smoothed += 0.01 * rng.normal(size=smoothed.shape) + 5
    found = complementary_components(smoothed, known, n_comps=1)
    assert abs(found[:, 0] @ pattern) == pytest.approx(1, abs=1e-3)


def test_all_genes_complete_the_basis() -> None:
    known = orthonormal(12, 4)
    smoothed = np.random.default_rng(3).normal(size=(5, 12))  # fewer cells than genes
    found = complementary_components(smoothed, known, n_comps=200)
    both = np.c_[known, found]
    assert both.shape == (12, 12)
    np.testing.assert_allclose(both @ both.T, np.eye(12), atol=1e-10)
    assert complementary_components(smoothed, both, n_comps=3).shape == (12, 0)
