from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import isost
from isost.tl import _inputs, _reconstruct
from isost.volume import Grid, decode, fill_pinholes, spread_in_layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from isost.model import IsoST

VOXEL_SIZE = 24.0


def layers(volume: AnnData) -> pd.Series:
    """Density summed over every layer."""
    return volume.obs["density"].groupby(volume.obsm["voxel"][:, 2]).sum()


def expected_cells(stack: AnnData, volume: AnnData) -> NDArray[np.float64]:
    """Cells that a section at the depth of each layer would have, on a line between those of the sections."""
    kept, grid = stack.uns["isost"]["sections"], volume.uns["isost"]["grid"]
    sizes = stack.obs["section"].value_counts(sort=False).to_numpy()
    depths = grid["origin"][2] + (np.arange(grid["shape"][2]) + 0.5) * grid["voxel_size"]
    return np.asarray(np.interp(depths, kept["z"], sizes))


def test_voxels_lie_on_their_grid(volume: AnnData, stack: AnnData) -> None:
    grid = volume.uns["isost"]["grid"]
    index = volume.obsm["voxel"]
    assert grid["voxel_size"] == VOXEL_SIZE
    assert index.dtype.kind == "i"
    np.testing.assert_allclose(volume.obsm["spatial"], grid["origin"] + (index + 0.5) * VOXEL_SIZE, rtol=0, atol=1e-9)
    assert volume.obsm["spatial"].dtype == np.float64
    assert (index >= 0).all()
    assert (index < grid["shape"]).all()
    assert len(np.unique(index, axis=0)) == len(index)
    assert np.lexsort(index.T).tolist() == list(range(len(index)))  # z, then y, then x
    places = stack.obsm["spatial"]
    assert (grid["origin"] <= places.min(0)).all()
    assert (grid["origin"] + grid["shape"] * VOXEL_SIZE >= places.max(0)).all()
    assert volume.obs_names.is_unique


def test_the_volume_knows_its_sections_as_the_stack_does(volume: AnnData, stack: AnnData) -> None:
    kept, expected = volume.uns["isost"]["sections"], stack.uns["isost"]["sections"]
    assert list(kept["names"]) == list(expected["names"])
    np.testing.assert_array_equal(kept["z"], expected["z"])


def test_every_layer_between_first_and_last_section_is_filled(volume: AnnData, stack: AnnData) -> None:
    z = stack.uns["isost"]["sections"]["z"]
    found = np.unique(volume.obsm["spatial"][:, 2])
    np.testing.assert_allclose(np.diff(found), VOXEL_SIZE)
    assert found[0] == pytest.approx(z[0])
    assert found[-1] + VOXEL_SIZE / 2 >= z[-1]


@pytest.mark.parametrize("voxel_size", [60 / 7, 12.3, 24.0, 41.0])
def test_density_over_a_layer_is_that_of_the_sections_around(
    stack: AnnData, model: IsoST, noisy_model: IsoST, voxel_size: float
) -> None:
    for used in (model, noisy_model):
        volume = isost.tl.reconstruct(stack, model=used, voxel_size=voxel_size, genes=[])
        assert (volume.obs["density"] > 0).all()
        np.testing.assert_allclose(layers(volume), expected_cells(stack, volume), rtol=1e-6)


def test_layers_that_hit_sections_hold_nothing_of_the_others(organ_sections: list[AnnData], fit_kws: Any) -> None:
    # depths whose layers miss the sections by rounding alone
    moved = [section.copy() for section in organ_sections]
    for k, section in enumerate(moved):
        section.obs["z"] = 0.1 + 0.06 * k
        section.obsm["spatial"] *= 1e-3
    stack = isost.pp.slice_stack(moved, n_comps=3)
    model = isost.tl.fit(stack, **(fit_kws | {"epochs": 1}))
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=0.02)
    measured = volume.obs["measured"]
    assert measured.groupby(volume.obsm["voxel"][:, 2]).all().tolist() == ([True, False, False] * 4)[:10]
    np.testing.assert_allclose(layers(volume), expected_cells(stack, volume), rtol=1e-6)
    # no voxels of next to nothing beside those of the sections' own cells
    grid = Grid.from_dict(volume.uns["isost"]["grid"])
    for k, section in enumerate(moved):
        places = np.column_stack([section.obsm["spatial"], section.obs["z"]])
        spread, shares = spread_in_layer(places, np.ones(len(places)), grid)
        index = np.unique(grid.index(spread[shares > 0]), axis=0)
        own, _ = fill_pinholes(index, np.ones(len(index)), grid)
        found = volume.obsm["voxel"][volume.obsm["voxel"][:, 2] == 3 * k]
        np.testing.assert_array_equal(found[:, :2], own[:, :2])


def test_expression_is_decoded_from_the_components(volume: AnnData, stack: AnnData, model: IsoST) -> None:
    assert volume.X.dtype == volume.obsm["X_pca"].dtype == np.float32
    slow = volume.obsm["X_pca"].astype(np.float64) @ volume.varm["PCs"].T.astype(np.float64)
    slow = slow * volume.var["gene_scale"].to_numpy() + volume.var["gene_mean"].to_numpy()
    np.testing.assert_allclose(volume.X, slow, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(volume.varm["PCs"], model.loadings)
    pd.testing.assert_frame_equal(volume.var, stack.var.drop(columns=["gene_min", "gene_max"]))


def test_expected_expression_is_near_the_truth_of_the_organ(volume: AnnData, organ_sections: list[AnnData]) -> None:
    truth = isost.datasets._organ.Organ(**organ_sections[0].uns["organ"])
    inside = truth.inside(volume.obsm["spatial"])
    expected = truth.expected_expression(volume.obsm["spatial"][inside])
    r = np.corrcoef(expected.ravel(), volume.X[inside].ravel())[0, 1]
    assert r > 0.9


def test_every_voxel_has_its_most_probable_label(
    volume: AnnData, stack: AnnData, organ_sections: list[AnnData]
) -> None:
    labels, probability = volume.obs["cell_type"], volume.obs["cell_type_probability"]
    assert labels.dtype == stack.obs["cell_type"].dtype
    assert probability.between(1 / len(labels.cat.categories), 1).all()
    assert list(volume.uns["cell_type_colors"]) == list(stack.uns["cell_type_colors"])
    assert not {"section", "section_probability"} & set(volume.obs)
    truth = isost.datasets._organ.Organ(**organ_sections[0].uns["organ"])
    inside = truth.inside(volume.obsm["spatial"])
    expected = truth.cell_type_probabilities(volume.obsm["spatial"][inside])
    chosen = expected[np.arange(inside.sum()), labels.cat.codes[inside]]
    # types lie in layers about as thin as the reach of a few cells: the best guess is not always found
    assert chosen.mean() > 0.7 * expected.max(1).mean() > 1.5 * expected.mean(0).max()


def test_sections_without_labels_give_a_volume_without_labels(organ_sections: list[AnnData], fit_kws: Any) -> None:
    bare = [section.copy() for section in organ_sections[:2]]
    for section in bare:
        section.obs = section.obs[["section", "z"]]
        section.uns = {}
    volume = isost.tl.reconstruct(bare, fit_kws=fit_kws | {"epochs": 1}, stack_kws={"n_comps": 3}, voxel_size=40.0)
    assert list(volume.obs.columns) == ["density", "measured", "section_distance", "uncertainty"]
    assert set(volume.uns) == {"isost"}


def test_a_selection_of_genes_is_that_of_the_whole(
    volume: AnnData, stack: AnnData, model: IsoST, tmp_path: Path
) -> None:
    wanted = list(volume.var_names[[7, 0, 33]])
    part = isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE, genes=wanted)
    assert list(part.var_names) == wanted
    np.testing.assert_array_equal(part.X, volume[:, wanted].X)
    np.testing.assert_array_equal(part.varm["PCs"], volume[:, wanted].varm["PCs"])
    np.testing.assert_array_equal(part.obsm["X_pca"], volume.obsm["X_pca"])
    pd.testing.assert_frame_equal(part.var, volume.var.loc[wanted])
    # and another gene can be decoded later from the same components
    np.testing.assert_array_equal(part.var["gene_mean"], stack.var["gene_mean"].iloc[[7, 0, 33]])
    every = part.uns["isost"]["all_genes"]
    assert list(every["names"]) == list(stack.var_names)
    other = decode(part.obsm["X_pca"], every["PCs"], every["gene_mean"], every["gene_scale"], genes=np.array([12]))
    np.testing.assert_array_equal(other[:, 0], volume.X[:, 12])
    isost.io.write(part, tmp_path / "part.h5ad")
    np.testing.assert_array_equal(isost.io.read(tmp_path / "part.h5ad").uns["isost"]["all_genes"]["PCs"], every["PCs"])


def test_genes_that_are_not_there_or_named_twice_are_refused(stack: AnnData, model: IsoST) -> None:
    with pytest.raises(KeyError, match=r"\['nosuch'\] are not in the stack"):
        isost.tl.reconstruct(stack, model=model, genes=["nosuch", stack.var_names[0]])
    with pytest.raises(KeyError, match=f"did you mean '{stack.var_names[0]}'"):
        isost.tl.reconstruct(stack, model=model, genes=[stack.var_names[0].upper()])
    with pytest.raises(ValueError, match="twice"):
        isost.tl.reconstruct(stack, model=model, genes=[stack.var_names[0]] * 2)


def test_a_lazy_volume_is_decoded_when_read(
    volume: AnnData,
    stack: AnnData,
    model: IsoST,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import dask.array as da

    lazy = isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE, lazy=True)
    assert isinstance(lazy.X, da.Array)
    assert lazy.X.dtype == np.float32
    np.testing.assert_array_equal(lazy.X.compute(), volume.X)
    monkeypatch.setattr(_reconstruct, "_LAZY_ABOVE", 1000)
    with caplog.at_level(logging.INFO, logger="isost"):
        chosen = isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE)
    assert isinstance(chosen.X, da.Array)
    assert "decoded when it is read" in caplog.text
    eager = isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE, lazy=False)
    assert isinstance(eager.X, np.ndarray)


def test_distance_and_measured_say_where_the_sections_are(volume: AnnData, stack: AnnData) -> None:
    z = stack.uns["isost"]["sections"]["z"]
    depth = volume.obsm["spatial"][:, 2]
    np.testing.assert_allclose(volume.obs["section_distance"], np.abs(depth[:, None] - z).min(1))
    grid = Grid.from_dict(volume.uns["isost"]["grid"])
    layer_of_section = np.floor((z - grid.origin[2]) / grid.voxel_size)
    np.testing.assert_array_equal(volume.obs["measured"], np.isin(volume.obsm["voxel"][:, 2], layer_of_section))
    assert volume.obs["measured"].dtype == bool


@pytest.mark.parametrize("voxel_size", [40.0, 30.0, 7.5])
def test_a_section_between_two_layers_lies_in_one_of_them(
    organ_sections: list[AnnData], fit_kws: Any, voxel_size: float
) -> None:
    depths = [0.0, 60.0, 120.0, 180.0]  # at 40 the second section lies on a face
    stack = isost.pp.slice_stack(organ_sections, z=depths, n_comps=3)
    model = isost.tl.fit(stack, **(fit_kws | {"epochs": 1}))
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=voxel_size)
    assert volume.obs["measured"].groupby(volume.obsm["voxel"][:, 2]).all().sum() == 4


def test_uncertainty_grows_from_the_sections_to_mid_gap(stack: AnnData, model: IsoST) -> None:
    fine = isost.tl.reconstruct(stack, model=model, voxel_size=6.0, genes=[stack.var_names[0]])
    inner = fine[fine.obs["density"] > 0.02].obs
    z = stack.uns["isost"]["sections"]["z"]
    assert (fine.obs["uncertainty"] > 0).all()
    assert np.isfinite(fine.obs["uncertainty"]).all()
    mean = inner["uncertainty"].groupby(inner["section_distance"].round(6)).mean()
    at_sections, in_gaps = mean[mean.index < 3].mean(), mean[mean.index > np.diff(z).min() / 2 - 6].mean()
    assert in_gaps > 1.1 * at_sections


def test_the_default_voxel_follows_the_spacing_of_cells_and_is_logged(
    stack: AnnData, model: IsoST, caplog: pytest.LogCaptureFixture
) -> None:
    from scipy.spatial import cKDTree

    with caplog.at_level(logging.INFO, logger="isost"):
        volume = isost.tl.reconstruct(stack, model=model)
    nearest = [
        cKDTree(places).query(places, 2)[0][:, 1]
        for _, rows in stack.obs.groupby("section", observed=True)
        for places in [stack[rows.index].obsm["spatial"][:, :2]]
    ]
    chosen = volume.uns["isost"]["grid"]["voxel_size"]
    assert chosen == pytest.approx(1.5 * np.median(np.concatenate(nearest)), rel=0.05)
    assert f"voxels of {chosen:g} in x, y and z" in caplog.text


@pytest.mark.parametrize("voxel_size", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_voxel_is_refused(stack: AnnData, model: IsoST, voxel_size: float) -> None:
    with pytest.raises(ValueError, match="voxel_size must be a positive number"):
        isost.tl.reconstruct(stack, model=model, voxel_size=voxel_size)


def test_the_same_seed_gives_the_same_volume_to_the_last_bit(
    stack: AnnData, noisy_model: IsoST, assert_same: Callable[..., None]
) -> None:
    first, again, other = (
        isost.tl.reconstruct(stack, model=noisy_model, voxel_size=VOXEL_SIZE, seed=seed) for seed in (1, 1, 2)
    )
    assert_same(first, again)
    assert first.n_obs != other.n_obs or not np.array_equal(first.obs["density"], other.obs["density"])


def test_one_seed_governs_the_fit_too(organ_sections: list[AnnData], fit_kws: Any) -> None:
    few = fit_kws | {"epochs": 1}
    volume = isost.tl.reconstruct(organ_sections, seed=3, fit_kws=few, stack_kws={"n_comps": 4}, voxel_size=VOXEL_SIZE)
    stack = isost.pp.slice_stack(organ_sections, n_comps=4)
    model = isost.tl.fit(stack, seed=3, **few)
    apart = isost.tl.reconstruct(stack, model=model, seed=3, voxel_size=VOXEL_SIZE)
    np.testing.assert_array_equal(volume.obs["density"], apart.obs["density"])
    np.testing.assert_array_equal(volume.X, apart.X)
    assert model.settings.n_comps == 4
    assert volume.uns["isost"]["params"] == {"seed": 3, "model": repr(model)}


def test_a_list_a_dict_and_one_anndata_give_the_same_volume(
    organ_sections: list[AnnData], model: IsoST, volume: AnnData, assert_same: Callable[..., None]
) -> None:
    import anndata

    names = [section.obs["section"].iloc[0] for section in organ_sections]
    joined = anndata.concat(organ_sections, merge="same")
    kws = {"n_comps": model.settings.n_comps}
    for given in (
        organ_sections,
        organ_sections[::-1],
        dict(zip(names, organ_sections, strict=True)),
        joined,
        joined[np.random.default_rng(0).permutation(joined.n_obs)].copy(),
    ):
        found = isost.tl.reconstruct(given, model=model, voxel_size=VOXEL_SIZE, stack_kws=kws)
        np.testing.assert_array_equal(found.obsm["voxel"], volume.obsm["voxel"])
        np.testing.assert_allclose(found.X, volume.X, atol=2e-5)
        np.testing.assert_allclose(found.obs["density"], volume.obs["density"], atol=2e-5)
    listed = isost.tl.reconstruct(organ_sections, model=model, voxel_size=VOXEL_SIZE, stack_kws=kws)
    assert_same(listed, volume)


def test_what_was_given_is_not_changed(
    organ_sections: list[AnnData], stack: AnnData, model: IsoST, fit_kws: Any, assert_same: Callable[..., None]
) -> None:
    given = [section.copy() for section in organ_sections]
    isost.tl.reconstruct(given, fit_kws=fit_kws | {"epochs": 1}, stack_kws={"n_comps": 3}, voxel_size=VOXEL_SIZE)
    for section, before in zip(given, organ_sections, strict=True):
        assert_same(section, before)
    before = stack.copy()
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=VOXEL_SIZE)
    volume.X[:] = -1
    volume.varm["PCs"][:] = -1
    volume.var.loc[:, ["gene_mean", "gene_scale"]] = -1
    volume.uns["cell_type_colors"][0] = "#000000"
    assert_same(stack, before)


def test_a_large_offset_makes_no_difference(organ_sections: list[AnnData], fit_kws: Any) -> None:
    few = fit_kws | {"epochs": 2}
    moved = [section.copy() for section in organ_sections]
    for section in moved:
        section.obsm["spatial"] = section.obsm["spatial"] + 1e6
        section.obs["z"] = section.obs["z"] + 1e6
    here, there = (
        isost.tl.reconstruct(given, fit_kws=few, stack_kws={"n_comps": 3}, voxel_size=VOXEL_SIZE)
        for given in (organ_sections, moved)
    )
    np.testing.assert_array_equal(there.obsm["voxel"], here.obsm["voxel"])
    np.testing.assert_allclose(there.obsm["spatial"] - 1e6, here.obsm["spatial"], atol=1e-6)
    np.testing.assert_allclose(there.X, here.X, atol=1e-4)
    np.testing.assert_allclose(there.obs["density"], here.obs["density"], atol=1e-3)


def test_arguments_without_effect_are_refused(stack: AnnData, model: IsoST) -> None:
    with pytest.raises(ValueError, match=r"fit_kws=.* has no effect when a model is given"):
        isost.tl.reconstruct(stack, model=model, fit_kws={"epochs": 3})
    with pytest.raises(ValueError, match=r"stack_kws=.* has no effect on a stack"):
        isost.tl.reconstruct(stack, model=model, stack_kws={"n_comps": 3})


def test_a_model_of_other_sections_is_refused(stack: AnnData, model: IsoST, organ_sections: list[AnnData]) -> None:
    shifted = [section.copy() for section in organ_sections]
    for section in shifted:
        section.obsm["spatial"] = section.obsm["spatial"] * 1.01
    kws: dict[str, Any] = {"n_comps": model.settings.n_comps}
    for other, message in (
        (
            isost.pp.slice_stack(organ_sections, genes=list(stack.var_names[:30])),
            "knows 40 genes and this stack has 30",
        ),
        (isost.pp.slice_stack(organ_sections, n_comps=5), "another normalisation"),
        (isost.pp.slice_stack(organ_sections[:3], **kws), "another normalisation"),
        (isost.pp.slice_stack(shifted, **kws), "another normalisation"),
    ):
        with pytest.raises(ValueError, match=message):
            isost.tl.reconstruct(other, model=model)


def test_voxels_wider_than_the_gaps_are_warned_of(
    stack: AnnData, model: IsoST, caplog: pytest.LogCaptureFixture
) -> None:
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=100.0)
    assert "voxels of 100 are wider than every gap between sections (at most 66" in caplog.text
    assert volume.n_obs > 0


def test_thousands_of_layers_in_a_gap_are_warned_of(
    stack: AnnData, model: IsoST, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _inputs._MANY_STEPS == 1000
    monkeypatch.setattr(_inputs, "_MANY_STEPS", 10)
    z = stack.uns["isost"]["sections"]["z"]
    message = rf"'section0' \(z = 0\) and 'section1' \(z = {z[1]:g}\) takes 11 layers of voxels of 6: .* 577.613 wide"
    with pytest.warns(UserWarning, match=message):
        isost.tl.reconstruct(stack, model=model, voxel_size=6.0, genes=[stack.var_names[0]])


def test_expression_that_varies_in_no_component_has_no_uncertainty_of_it(organ_sections: list[AnnData]) -> None:
    two = [section[:, :2].copy() for section in organ_sections[:2]]
    for section in two:
        section.X = section.X.toarray()
        section.X[:, 1] = section.X[:, 0]
    volume = isost.tl.reconstruct(two, fit_kws={"epochs": 1, "hidden_dim": 8, "progress": False}, voxel_size=40.0)
    assert np.isfinite(volume.obs["uncertainty"]).all()
    np.testing.assert_allclose(volume.X[:, 0], volume.X[:, 1], atol=1e-4)


def test_one_name_is_not_a_list_of_genes(stack: AnnData, model: IsoST) -> None:
    with pytest.raises(TypeError, match=r"pass genes=\['Grad"):
        isost.tl.reconstruct(stack, model=model, genes="Grad-AP-1")
