from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isost.volume import decode, decoded_bytes


def model(seed: int, n: int, g: int, n_comps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pcs = rng.normal(size=(n, n_comps)).astype(np.float32)
    return pcs, rng.normal(size=(g, n_comps)), rng.normal(size=g), rng.random(g) + 0.1


def reference(pcs, loadings, mean, scale):
    out = np.empty((len(pcs), len(loadings)))
    for i in range(len(pcs)):
        for j in range(len(loadings)):
            out[i, j] = sum(float(a) * float(b) for a, b in zip(pcs[i], loadings[j], strict=True)) * scale[j] + mean[j]
    return out


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), g=st.integers(1, 9), block_rows=st.integers(1, 15))
def test_equals_a_loop_over_rows_and_genes(seed, n, g, block_rows):
    arguments = model(seed, n, g, 4)
    decoded = decode(*arguments, block_rows=block_rows)
    assert decoded.dtype == np.float32
    assert np.allclose(decoded, reference(*arguments), rtol=1e-6, atol=1e-6)


def test_inverts_a_full_pca():
    rng = np.random.default_rng(0)
    expression = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + 3
    mean, scale = expression.mean(0), expression.std(0)
    scores = (expression - mean) / scale
    loadings = np.linalg.svd(scores, full_matrices=False)[2].T
    assert np.allclose(decode(scores @ loadings, loadings, mean, scale), expression, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("block_rows", [None, 1, 7, 1000])
def test_lazy_is_equal_and_lazy(block_rows):
    import dask.array as da

    arguments = model(1, 50, 30, 5)
    lazy = decode(*arguments, lazy=True, block_rows=block_rows)
    eager = decode(*arguments, block_rows=block_rows)
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype) == (eager.shape, eager.dtype)
    assert np.array_equal(lazy.compute(), eager)
    assert np.array_equal(lazy[10:20, 3:5].compute(), eager[10:20, 3:5])


def test_lazy_blocks_are_bounded():
    lazy = decode(*model(2, 5000, 2000, 2), lazy=True)
    assert max(lazy.chunks[0]) * 2000 * 8 <= 32 * 2**20
    assert len(lazy.chunks[0]) > 1


@pytest.mark.parametrize("lazy", [False, True])
def test_any_gene_can_be_decoded_later(lazy):
    arguments = model(3, 20, 10, 4)
    everything = decode(*arguments)
    chosen = np.array([7, 0, 7])
    assert np.allclose(decode(*arguments, genes=chosen, lazy=lazy), everything[:, chosen], rtol=1e-6)
    mask = np.arange(10) % 3 == 0
    assert np.allclose(decode(*arguments, genes=mask, lazy=lazy), everything[:, mask], rtol=1e-6)


def test_decoded_bytes_is_what_numpy_says():
    assert decoded_bytes(20, 10) == decode(*model(3, 20, 10, 4)).nbytes


def test_shapes_that_disagree_are_refused():
    pcs, loadings, mean, scale = model(4, 5, 6, 3)
    with pytest.raises(ValueError, match="pcs must have shape"):
        decode(pcs[:, :2], loadings, mean, scale)
    with pytest.raises(ValueError, match="gene_mean and gene_scale"):
        decode(pcs, loadings, mean[:3], scale)
    with pytest.raises(ValueError, match="block_rows"):
        decode(pcs, loadings, mean, scale, block_rows=0)
