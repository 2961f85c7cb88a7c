from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from isost.pp._matrix import is_integer_valued, join_expression, read_expression


def test_genes_and_layers(make_section):
    section = make_section(0)
    section.layers["double"] = 2 * section.X
    genes = section.var_names[[4, 1]]
    np.testing.assert_array_equal(read_expression("a", section, genes, layer=None), section.X[:, [4, 1]])
    np.testing.assert_array_equal(read_expression("a", section, genes, layer="double"), 2 * section.X[:, [4, 1]])
    with pytest.raises(KeyError, match=r"section 'a' has no layer 'counts' \(it has \['double'\]\)"):
        read_expression("a", section, genes, layer="counts")
    section.X = None
    with pytest.raises(KeyError, match=r"section 'a' has no X; pass layer="):
        read_expression("a", section, genes, layer=None)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_values_must_be_finite(make_section, kind, bad):
    section = make_section(0)
    section.X[2, 1] = bad
    section.X = kind(section.X)
    with pytest.raises(ValueError, match="expression of section 'a' has NaN or infinite values"):
        read_expression("a", section, section.var_names, layer=None)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_whole_numbers(kind):
    counts = np.random.default_rng(0).poisson(1.0, (200, 3))
    assert is_integer_valued(kind(counts))
    assert is_integer_valued(kind(counts.astype(np.float32)))
    assert not is_integer_valued(kind(np.log1p(counts)))
    late = counts.astype(float)
    late[-1, -1] = 0.5
    assert not is_integer_valued(kind(late))


def test_sparse_and_dense_sections_join_as_sparse():
    rng = np.random.default_rng(0)
    dense = [rng.random((n, 4)) * (rng.random((n, 4)) < 0.5) for n in (3, 5, 2)]
    joined = join_expression([dense[0], sparse.csr_matrix(dense[1]), dense[2]])
    assert joined.format == "csr"
    np.testing.assert_array_equal(joined.toarray(), np.concatenate(dense))
    assert isinstance(join_expression(dense), np.ndarray)


def test_entries_stored_twice_are_added_up():
    twice = sparse.csr_matrix((np.ones(2), [1, 1], [0, 2]), shape=(1, 3))
    joined = join_expression([twice, twice])
    assert joined.nnz == 2
    np.testing.assert_array_equal(joined.toarray(), [[0, 2, 0]] * 2)
    assert twice.nnz == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_type_of_numbers_is_kept(dtype, kind):
    part = kind(np.eye(3, dtype=dtype))
    assert join_expression([part, part]).dtype == dtype
