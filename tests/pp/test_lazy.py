from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from isost import io
from isost.pp import GenePCA, _matrix, _pca, read_rows, row_blocks, slice_stack


@pytest.fixture
def read(monkeypatch):
    """Names of the sections whose expression is read, as it is."""
    names = []
    original = _matrix.read_expression
    monkeypatch.setattr(
        _matrix, "read_expression", lambda name, *a, **k: (names.append(name), original(name, *a, **k))[1]
    )
    return names


def dense(X):
    return X.toarray() if sparse.issparse(X) else X


def on_disk(sections, tmp_path, suffix):
    for i, section in enumerate(sections):
        io.write(section, tmp_path / f"s{i}{suffix}")
    return io.read_sections(tmp_path, lazy=True)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_lazy_stack_is_the_stack(sections, tmp_path, kind, suffix):
    genes = ["gene4", "gene1", "gene2", "gene7"]
    for section in sections:
        section.layers["twice"] = kind(2 * section.X)
        section.X = kind(section.X)
    lazily = on_disk(sections, tmp_path, suffix)
    for kws in ({}, {"genes": genes}, {"layer": "twice"}):
        expected = slice_stack(io.read_sections(tmp_path), n_comps=4, **kws)
        stack = slice_stack(lazily, n_comps=4, lazy=True, **kws)
        assert isinstance(stack.X, da.Array)
        assert stack.X.numblocks == (4, 1)
        assert stack.X.dtype == expected.X.dtype
        found = stack.X.compute()
        assert sparse.issparse(found) == sparse.issparse(expected.X)
        np.testing.assert_array_equal(dense(found), dense(expected.X))
        np.testing.assert_allclose(stack.obsm["X_isost"], expected.obsm["X_isost"], atol=1e-5)
        np.testing.assert_allclose(stack.varm["PCs"], expected.varm["PCs"], atol=1e-5)
        pd.testing.assert_frame_equal(stack.var, expected.var, rtol=1e-10)
        assert stack.obs.equals(expected.obs)
    assert isinstance(lazily["s0"].X, da.Array)


def test_any_sections_can_be_left_where_they_are(sections, tmp_path):
    sections[0].X = sparse.csr_matrix(sections[0].X)  # one alone: then all come as such
    for i, section in enumerate(sections):
        section.obs["section"] = f"s{i}"
    joined = ad.concat(sections)
    joined.write_h5ad(tmp_path / "all.h5ad")
    backed = ad.read_h5ad(tmp_path / "all.h5ad", backed="r")
    expected = slice_stack(sections, n_comps=4)
    for given in (sections, joined, backed, io.read_sections(tmp_path / "all.h5ad", lazy=True)):
        stack = slice_stack(given, n_comps=4, lazy=True)
        np.testing.assert_array_equal(stack.X.compute().toarray(), expected.X.toarray())
        np.testing.assert_allclose(stack.obsm["X_isost"], expected.obsm["X_isost"], atol=1e-5)
    backed.file.close()


def test_sections_are_read_one_by_one_and_only_where_needed(sections, read):
    stack = slice_stack(sections, lazy=True)
    order = ["section_1", "section_3", "section_0", "section_2"]
    # mean and variance; covariance; components; range; checks: counts, which genes vary, what these are in some cells
    assert read == 7 * order
    read.clear()
    first = next(row_blocks(stack.X))
    assert read == order[:1]
    np.testing.assert_array_equal(first, sections[1].X)
    read.clear()
    n = sections[1].n_obs
    found = read_rows(stack.X, np.array([n + 3, n, n + 1]))
    assert read == [order[1]]
    np.testing.assert_array_equal(found, sections[3].X[[3, 0, 1]])


def test_counts_are_warned_of(sections):
    for section in sections:
        section.X = np.rint(section.X)
    with pytest.warns(UserWarning, match="raw counts"):
        slice_stack(sections, lazy=True)


def test_bad_input_is_named(sections, tmp_path):
    with pytest.raises(KeyError, match="section 'section_1' has no layer 'x'"):
        slice_stack(sections, layer="x", lazy=True)
    sections[2].X[3, 1] = np.nan
    with pytest.raises(ValueError, match="expression of section 'section_2' has NaN"):
        slice_stack(sections, lazy=True)


def test_a_lazy_stack_survives_a_file(sections, tmp_path):
    stack = slice_stack(sections, lazy=True)
    io.write(stack, tmp_path / "stack.zarr")
    again = io.read(tmp_path / "stack.zarr", lazy=True)
    np.testing.assert_array_equal(again.X.compute(), stack.X.compute())
    np.testing.assert_array_equal(again.obsm["X_isost"], stack.obsm["X_isost"])


def test_components_of_many_genes(monkeypatch):
    X = np.random.default_rng(0).random((60, 12))
    lazy = da.from_array(X, chunks=(20, 12))
    monkeypatch.setattr(_pca, "MANY_GENES", 3)
    np.testing.assert_allclose(GenePCA.fit(lazy, n_comps=3).loadings, GenePCA.fit(X, n_comps=3).loadings, atol=1e-5)
    monkeypatch.setattr(_pca, "MOST_GENES", 11)
    with pytest.raises(ValueError, match="lazy expression may have 11 genes at most, not 12: choose some by genes="):
        GenePCA.fit(lazy, n_comps=3)
