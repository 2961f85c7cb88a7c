from __future__ import annotations

import numpy as np
import pytest

from isost.pp import Stack, slice_stack


@pytest.fixture
def stack(sections):
    return slice_stack(sections, n_comps=4)


def test_fields(stack, sections):
    view = Stack.from_anndata(stack)
    assert view.names == ("section_1", "section_3", "section_0", "section_2")
    np.testing.assert_array_equal(view.z, [0, 10, 20, 35])
    np.testing.assert_allclose(view.depths, [0, 0.1, 0.2, 0.35], atol=1e-15)
    np.testing.assert_array_equal(view.sizes, [28, 34, 25, 31])
    np.testing.assert_array_equal(view.offsets, [0, 28, 62, 87, 118])
    assert view.state.shape == (118, 7)
    assert view.state.dtype == np.float32
    assert view.loadings.shape == (8, 4)
    assert view.gene_mean.shape == view.gene_scale.shape == (8,)
    assert view.normalization.n_comps == 4


def test_section_gives_its_rows(stack, sections):
    view = Stack.from_anndata(stack)
    for k, given in enumerate([1, 3, 0, 2]):
        np.testing.assert_array_equal(stack.X[view.section(k)], sections[given].X)
        np.testing.assert_allclose(view.state[view.section(k), 2], view.depths[k], rtol=1e-6)
    assert view.section(-1) == view.section(3)
    with pytest.raises(IndexError):
        view.section(4)


def test_not_a_stack(sections, stack):
    with pytest.raises(ValueError, match=r"not a stack.*call isost.pp.slice_stack first"):
        Stack.from_anndata(sections[0])
    del stack.obsm["X_isost"]
    with pytest.raises(ValueError, match=r"call isost.pp.slice_stack first"):
        Stack.from_anndata(stack)


def test_subsets(stack):
    order = np.arange(stack.n_obs) % 2 == 0
    assert Stack.from_anndata(stack[order]).sizes.sum() == order.sum()
    with pytest.raises(ValueError, match="8 genes and now has 3"):
        Stack.from_anndata(stack[:, :3])
    with pytest.raises(ValueError, match=r"no longer runs through the sections .* in z order"):
        Stack.from_anndata(stack[::-1])
    with pytest.raises(ValueError, match="section 'section_3' has no points left"):
        Stack.from_anndata(stack[stack.obs["section"] != "section_3"])
    del stack.obs["section"]
    with pytest.raises(ValueError, match=r"lost obs\['section'\]"):
        Stack.from_anndata(stack)


def test_what_is_known_of_genes_follows_them(stack):
    order = [7, 0, 3, 1, 2, 6, 5, 4]
    view, other = Stack.from_anndata(stack), Stack.from_anndata(stack[:, order])
    for field in ("loadings", "gene_mean", "gene_scale"):
        np.testing.assert_array_equal(getattr(other, field), getattr(view, field)[order])
    np.testing.assert_array_equal(other.gene_range, view.gene_range[:, order])


def test_renamed_sections_are_noticed(stack):
    stack.obs["section"] = stack.obs["section"].cat.rename_categories({"section_0": "other"})
    with pytest.raises(ValueError, match="no longer runs through"):
        Stack.from_anndata(stack)
