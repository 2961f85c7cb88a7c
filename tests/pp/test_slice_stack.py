from __future__ import annotations

import copy
import sys
from pathlib import Path

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from isost import io
from isost._normalization import EXPRESSION, SPACE, Normalization
from isost.pp import Stack, slice_stack


def dense(X):
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


def assert_same_stack(a, b):
    np.testing.assert_array_equal(dense(a.X), dense(b.X))
    pd.testing.assert_frame_equal(a.obs, b.obs)
    assert list(a.var_names) == list(b.var_names)
    for key in ("spatial", "X_isost"):
        np.testing.assert_array_equal(a.obsm[key], b.obsm[key])
    np.testing.assert_array_equal(a.varm["PCs"], b.varm["PCs"])
    np.testing.assert_array_equal(a.uns["isost"]["sections"]["names"], b.uns["isost"]["sections"]["names"])
    np.testing.assert_array_equal(a.uns["isost"]["normalization"]["scale"], b.uns["isost"]["normalization"]["scale"])


def test_contract(sections):
    stack = slice_stack(sections)
    assert stack.shape == (118, 8)
    order = [1, 3, 0, 2]
    np.testing.assert_array_equal(stack.X, np.concatenate([sections[i].X for i in order]))
    assert stack.obs["section"].cat.ordered
    assert list(stack.obs["section"].cat.categories) == [f"section_{i}" for i in order]
    assert list(stack.obs_names) == [name for i in order for name in sections[i].obs_names]
    xy = np.concatenate([sections[i].obsm["spatial"] for i in order])
    np.testing.assert_array_equal(stack.obsm["spatial"], np.column_stack([xy, stack.obs["z"]]))
    assert stack.obsm["spatial"].dtype == np.float64
    assert stack.obsm["X_isost"].shape == (118, 3 + 8)
    assert stack.obsm["X_isost"].dtype == np.float32
    assert stack.varm["PCs"].shape == (8, 8)
    kept = stack.uns["isost"]
    assert set(kept) == {"params", "normalization", "n_genes", "sections", "provenance"}
    assert kept["params"] == {
        "spatial_key": "spatial", "z_key": "z", "section_key": "section", "n_comps": 50, "seed": 0,
    }  # fmt: skip
    np.testing.assert_array_equal(kept["sections"]["z"], [0, 10, 20, 35])
    np.testing.assert_array_equal(stack.var[["gene_min", "gene_max"]].T, [stack.X.min(0), stack.X.max(0)])


def test_normalisation_as_the_method_has_it(sections):
    stack = slice_stack(sections, n_comps=5)
    state, xyz = stack.obsm["X_isost"], stack.obsm["spatial"]
    width = np.ptp(xyz[:, :2], axis=0).max()
    np.testing.assert_allclose(state[:, :2], (xyz[:, :2] - xyz[:, :2].min(axis=0)) / width, atol=1e-6)
    np.testing.assert_allclose(state[:, 2], xyz[:, 2] / 10 * 0.1, atol=1e-6)
    np.testing.assert_allclose(state[:, 3:].min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(state[:, 3:].max(axis=0), 1, atol=1e-6)
    X = stack.X.astype(float)
    scores = (X - X.mean(axis=0)) / X.std(axis=0) @ stack.varm["PCs"]
    expected = (scores - scores.min(axis=0)) / np.ptp(scores, axis=0)
    np.testing.assert_allclose(state[:, 3:], expected, atol=1e-5)


def test_the_state_decodes_to_positions_and_expression(sections):
    stack = slice_stack(sections)
    view = Stack.from_anndata(stack)
    values = view.normalization.decode(view.state)
    np.testing.assert_allclose(values[:, SPACE], stack.obsm["spatial"], atol=1e-3)
    z_scores = values[:, EXPRESSION] @ view.loadings.T
    np.testing.assert_allclose(z_scores * view.gene_scale + view.gene_mean, stack.X, atol=1e-4)


def test_reconstruction_is_that_of_the_components_themselves(sections):
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    stack = slice_stack(sections, n_comps=3)
    view = Stack.from_anndata(stack)
    decoded = view.normalization.decode(view.state[:, EXPRESSION], dims=EXPRESSION) @ view.loadings.T
    scaler = StandardScaler()
    Z = scaler.fit_transform(stack.X.astype(float))
    pca = PCA(3, svd_solver="full").fit(Z)
    np.testing.assert_allclose(decoded, pca.inverse_transform(pca.transform(Z)), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_encode_and_decode_undo_each_other(data):
    numbers = st.floats(-1e5, 1e5, allow_nan=False, width=32)
    n_dims = data.draw(st.integers(4, 8))
    minimum = np.array(data.draw(st.lists(numbers, min_size=n_dims, max_size=n_dims)))
    scale = np.array(data.draw(st.lists(st.floats(1e-3, 1e4), min_size=n_dims, max_size=n_dims)))
    x = np.array(data.draw(st.lists(numbers, min_size=n_dims, max_size=n_dims)))
    norm = Normalization(minimum, scale)
    np.testing.assert_allclose(norm.decode(norm.encode(x)), x, rtol=1e-10, atol=1e-9)
    again = Normalization.from_dict(norm.to_dict())
    np.testing.assert_array_equal(again.encode(x), norm.encode(x))


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(4)), as_sparse=st.booleans())
def test_order_of_the_sections_does_not_matter(make_section, order, as_sparse):
    named = {name: make_section(i, n=12 + i, z=z) for i, (name, z) in enumerate(zip("abcd", [4, 1, 9, 2], strict=True))}
    if as_sparse:
        for section in named.values():
            section.X = sparse.csr_matrix(section.X)
    shuffled = {name: named[name] for name in np.array(list(named))[list(order)]}
    assert_same_stack(slice_stack(named, n_comps=4), slice_stack(shuffled, n_comps=4))


def test_three_ways_to_hand_over_sections(sections):
    names = ["w", "x", "y", "z"]
    as_dict = slice_stack(dict(zip(names, sections, strict=True)))
    for name, section in zip(names, sections, strict=True):
        section.obs["section"] = name
    as_list = slice_stack(sections)
    as_one = slice_stack(ad.concat(sections))
    interleaved = ad.concat(sections)[np.random.default_rng(0).permutation(118)]
    assert_same_stack(as_dict, as_one)
    assert_same_stack(as_dict[:, as_list.var_names], as_list)
    np.testing.assert_allclose(
        slice_stack(interleaved)[as_one.obs_names].obsm["X_isost"], as_one.obsm["X_isost"], atol=1e-4
    )


def test_depths_given(sections):
    stack = slice_stack(sections, z=[3, 2, 1, 0])
    assert list(stack.uns["isost"]["sections"]["names"]) == ["section_3", "section_2", "section_1", "section_0"]
    np.testing.assert_array_equal(np.unique(stack.obsm["spatial"][:, 2]), [0, 1, 2, 3])


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_stays_sparse(sections, kind):
    expected = slice_stack(sections, n_comps=4)
    for section in sections:
        section.X = kind(section.X)
    stack = slice_stack(sections, n_comps=4)
    assert stack.X.format == "csr"
    np.testing.assert_array_equal(stack.X.toarray(), expected.X)
    np.testing.assert_allclose(stack.obsm["X_isost"], expected.obsm["X_isost"], atol=1e-4)


def test_backed_sections(sections, tmp_path):
    expected = slice_stack(sections, n_comps=4, genes=["gene4", "gene1", "gene2", "gene7"])
    for i, section in enumerate(sections):
        if i % 2:
            section.X = sparse.csr_matrix(section.X)
        section.write_h5ad(tmp_path / f"{i}.h5ad")
    backed = [ad.read_h5ad(tmp_path / f"{i}.h5ad", backed="r") for i in range(4)]
    stack = slice_stack(backed, n_comps=4, genes=["gene4", "gene1", "gene2", "gene7"])
    assert all(section.isbacked for section in backed)
    np.testing.assert_array_equal(stack.X.toarray(), expected.X)
    np.testing.assert_allclose(stack.obsm["X_isost"], expected.obsm["X_isost"], atol=1e-4)
    for section in backed:
        section.file.close()


def test_one_backed_object(sections, tmp_path):
    joined = ad.concat(dict(zip("abcd", sections, strict=True)), label="section")
    expected = slice_stack(joined)
    joined.write_h5ad(tmp_path / "all.h5ad")
    backed = ad.read_h5ad(tmp_path / "all.h5ad", backed="r")
    assert_same_stack(slice_stack(backed), expected)
    backed.file.close()


def test_dask_sections(sections):
    expected = slice_stack(sections)
    as_sparse = slice_stack([ad.AnnData(sparse.csr_matrix(s.X), obs=s.obs, var=s.var, obsm=s.obsm) for s in sections])
    for section in sections:
        section.X = da.from_array(section.X, chunks=(10, 8))
    assert_same_stack(slice_stack(sections), expected)
    for section in sections:
        section.X = section.X.map_blocks(sparse.csr_matrix, dtype=section.X.dtype)
    stack = slice_stack(sections)
    assert sparse.issparse(stack.X)
    assert_same_stack(stack, as_sparse)


def test_shared_genes_in_the_order_of_the_lowest_section(sections):
    lowest = sections[1]
    sections[1] = lowest[:, ["gene6", "gene2", "gene0"]].copy()
    assert list(slice_stack(sections, check=False).var_names) == ["gene6", "gene2", "gene0"]
    assert list(slice_stack(sections, genes=["gene0", "gene6"]).var_names) == ["gene0", "gene6"]


def test_layer(sections):
    for section in sections:
        section.layers["lognorm"] = section.X + 0.25
        section.X = np.round(section.X)
    stack = slice_stack(sections, layer="lognorm")
    assert stack.X.min() == 0.25
    assert stack.uns["isost"]["params"]["layer"] == "lognorm"


def test_raw_counts_warn(sections, caplog):
    for section in sections:
        section.X = np.round(np.expm1(section.X)).astype(np.int64)
    with pytest.warns(UserWarning, match="whole numbers: raw counts") as caught:
        stack = slice_stack(sections)
    assert caught[0].filename == __file__
    assert "raw counts" not in caplog.text  # said once
    assert stack.X.dtype == np.int64


def everything(section):
    """All that a caller could see of a section."""
    return copy.deepcopy(
        {
            "X": section.X,
            "obs": section.obs,
            "var": section.var,
            "obsm": dict(section.obsm),
            "uns": dict(section.uns),
            "layers": dict(section.layers),
        }
    )


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_sections_are_left_alone(sections, kind):
    for section in sections:
        section.obs["kind"] = pd.Categorical(["a", "b"] * 20)[: section.n_obs]
        section.uns["kind_colors"] = ["red", "blue"]
        section.X = kind(section.X)
        for array in (section.obsm["spatial"], getattr(section.X, "data", None)):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
    before = [everything(section) for section in sections]
    stack = slice_stack(sections)
    assert stack.uns["kind_colors"] == ["red", "blue"]
    for section, was in zip(sections, before, strict=True):
        now = everything(section)
        np.testing.assert_array_equal(dense(now["X"]), dense(was["X"]))
        pd.testing.assert_frame_equal(now["obs"], was["obs"])
        pd.testing.assert_frame_equal(now["var"], was["var"])
        assert list(now["obsm"]) == list(was["obsm"])
        np.testing.assert_array_equal(now["obsm"]["spatial"], was["obsm"]["spatial"])
        assert now["uns"] == was["uns"]
    X = stack.X.data if sparse.issparse(stack.X) else stack.X
    X += 1  # nor do they share memory with the stack
    np.testing.assert_array_equal(dense(sections[0].X), dense(before[0]["X"]))


def test_global_random_state_is_left_alone(sections):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    slice_stack(sections)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_survives_a_file(sections, tmp_path, suffix):
    sections[0].obs["only_here"] = "x"
    sections[1].obs["flag"] = True
    sections[2].obs["kind"] = pd.Categorical(["a", "b"] * 20)[: sections[2].n_obs]
    stack = slice_stack(sections, z_key="z")
    io.write(stack, tmp_path / f"stack{suffix}")
    again = io.read(tmp_path / f"stack{suffix}")
    before, after = Stack.from_anndata(stack), Stack.from_anndata(again)
    assert before.names == after.names
    for field in ("depths", "z", "sizes", "offsets", "state", "loadings", "gene_mean", "gene_scale", "gene_range"):
        np.testing.assert_array_equal(getattr(before, field), getattr(after, field))
    np.testing.assert_array_equal(before.normalization.scale, after.normalization.scale)
    assert again.obs["section"].cat.ordered
    assert dict(again.uns["isost"]["params"]) == stack.uns["isost"]["params"]


def test_a_stack_can_be_stacked_again(sections):
    stack = slice_stack(sections)
    again = slice_stack(stack)
    assert_same_stack(stack, again)
    stack.obs["corrected"] = 2 * stack.obsm["spatial"][:, 2]
    np.testing.assert_array_equal(slice_stack(stack, z_key="corrected").uns["isost"]["sections"]["z"], [0, 20, 40, 70])


def test_columns_of_var_that_a_stack_replaces_are_told(sections, caplog):
    for section in sections:
        section.var["gene_mean"] = "mine"
    slice_stack(sections)
    assert "columns ['gene_mean'] of var are replaced" in caplog.text
    assert sections[0].var["gene_mean"].eq("mine").all()


def test_component_of_rounding_errors_is_not_blown_up(sections):
    for section in sections:
        section.X[:, 6:] = section.X[:, :2]
    stack = slice_stack(sections)
    assert stack.obsm["X_isost"].shape[1] == 11
    np.testing.assert_allclose(stack.obsm["X_isost"][:, 9:], 0, atol=1e-3)
    np.testing.assert_array_equal(stack.uns["isost"]["normalization"]["scale"][-2:], 1)


@pytest.mark.parametrize("value", [0.5, 0.1])
def test_nothing_varies(sections, value):
    for section in sections:
        section.X[:] = value
    with pytest.raises(ValueError, match="expression is the same at all points"):
        slice_stack(sections)


def test_negative_depths_and_large_offsets(sections):
    for section in sections:
        section.obs["z"] -= 1e6
        section.obsm["spatial"] += 1e7
    stack = slice_stack(sections)
    state = stack.obsm["X_isost"]
    np.testing.assert_allclose(np.unique(state[:, 2]), [0, 0.1, 0.2, 0.35], atol=1e-6)
    assert state[:, :2].min() == 0
    assert state[:, :2].max() == 1


def test_errors_come_before_any_work(sections, monkeypatch):
    monkeypatch.setattr("isost.pp._slice_stack.read_expression", lambda *_args, **_kws: pytest.fail("began to read"))
    with pytest.raises(KeyError, match="spatial_key="):
        slice_stack(sections, spatial_key="nowhere")
    with pytest.raises(ValueError, match="same z"):
        slice_stack(sections, z=[0, 1, 1, 2])
    with pytest.raises(KeyError, match="lacks 1 of genes="):
        slice_stack(sections, genes=["Gad1"])
    with pytest.raises(ValueError, match="n_comps must be at least 1"):
        slice_stack(sections, n_comps=0)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n_sections", "n_comps"),
    [
        ("merfish_hypothalamus_poa_5sections", 5, 50),
        ("drosophila_bdtnp_stage5", 20, 50),
        ("ra_synovium_RA2_3dst", 7, 50),
    ],
)
def test_measured_sections(data_dir, name, n_sections, n_comps):
    adata = ad.read_h5ad(data_dir / f"{name}.h5ad")
    if adata.n_vars > 1000:
        adata = adata[:, :3000].copy()  # still more than the covariance is taken for
    if name.startswith("merfish"):
        adata.X = np.log1p(adata.X)
    stack = slice_stack(adata)
    view = Stack.from_anndata(stack)
    assert len(view.names) == n_sections
    assert view.normalization.n_comps == n_comps
    assert np.median(np.diff(view.depths)) == pytest.approx(0.1)
    assert view.sizes.sum() == adata.n_obs
    assert np.isfinite(view.state).all()
    assert sparse.issparse(stack.X) == sparse.issparse(adata.X)
    np.testing.assert_allclose(view.loadings.T @ view.loadings, np.eye(n_comps), atol=1e-5)


@pytest.mark.data
@pytest.mark.parametrize("name", ["merfish", "bdtnp", "synovium"])
def test_sections_as_the_scores_take_them(data_dir, name, monkeypatch):
    checks = Path(data_dir).parent / "checks"
    if not (checks / "fidelity.py").is_file():
        pytest.skip("no scoring program beside the data")
    monkeypatch.setattr(sys, "path", [str(checks), *sys.path])
    listed, held_out = __import__("fidelity").sections(name)
    stack = slice_stack([section for i, section in enumerate(listed) if i not in held_out])
    assert len(Stack.from_anndata(stack).names) == len(listed) - len(held_out)


def test_labels_in_strings_become_categoricals(sections):
    for section in sections:
        section.obs["cell_type"] = pd.Series(["glia", "neuron"] * 20, dtype=object)[: section.n_obs].to_numpy()
    before = sections[0].obs.copy()
    stack = slice_stack(sections)
    assert list(stack.obs["cell_type"].cat.categories) == ["glia", "neuron"]
    pd.testing.assert_frame_equal(sections[0].obs, before)
