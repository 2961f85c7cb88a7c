from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.spatial import cKDTree

import isost
from isost._checks import layer_names
from isost.generation import locate
from isost.metrics import energy_distance
from isost.model import IsoST
from isost.tl import _section
from isost.tl._inputs import Sections
from isost.tl._standard_error import gene_variance, spread_around
from isost.tl._surroundings import Surroundings
from isost.volume import decode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def z(stack: AnnData) -> NDArray[np.float64]:
    return np.asarray(stack.uns["isost"]["sections"]["z"])


@pytest.fixture(scope="module")
def middle(stack: AnnData, model: IsoST, z: NDArray[np.float64]) -> AnnData:
    """Generated at a quarter of the second gap."""
    return isost.tl.section(stack, model=model, z=z[1] + 0.25 * (z[2] - z[1]))


def own_cells(stack: AnnData, k: int) -> AnnData:
    return stack[stack.obs["section"] == f"section{k}"]


def spacing(places: NDArray[np.float64]) -> float:
    return float(np.median(cKDTree(places).query(places, 2)[0][:, 1]))


def test_every_cell_lies_exactly_at_the_depth_asked_for(middle: AnnData, z: NDArray[np.float64]) -> None:
    depth = z[1] + 0.25 * (z[2] - z[1])
    assert middle.obsm["spatial"].shape == (middle.n_obs, 3)
    assert middle.obsm["spatial"].dtype == np.float64
    assert (middle.obsm["spatial"][:, 2] == depth).all()
    np.testing.assert_allclose(middle.obs["section_distance"], depth - z[1])
    assert not middle.obs["measured"].any()
    assert middle.obs_names.is_unique
    assert "cut" not in middle.obs
    assert "plane" not in middle.obsm


def test_as_many_cells_as_a_section_there_would_have_from_both_sections(middle: AnnData, stack: AnnData) -> None:
    sizes = stack.obs["section"].value_counts(sort=False).to_numpy()
    assert abs(middle.n_obs - (0.75 * sizes[1] + 0.25 * sizes[2])) <= 1
    donors = middle.obs["source_section"].value_counts()
    assert set(donors[donors > 0].index) == {"section1", "section2"}
    assert donors["section1"] / middle.n_obs == pytest.approx(0.75 * sizes[1] / middle.n_obs, abs=0.07)
    assert middle.obs["source_section"].cat.ordered
    assert list(middle.obs["source_section"].cat.categories) == [f"section{k}" for k in range(4)]


def test_cells_do_not_crowd(middle: AnnData, stack: AnnData) -> None:
    measured = spacing(own_cells(stack, 1).obsm["spatial"][:, :2])
    assert spacing(middle.obsm["spatial"][:, :2]) > 0.6 * measured


@pytest.mark.parametrize("k", range(4))
def test_a_measured_depth_gives_that_section_itself(
    stack: AnnData, noisy_model: IsoST, z: NDArray[np.float64], k: int
) -> None:
    found, own = isost.tl.section(stack, model=noisy_model, z=z[k]), own_cells(stack, k)
    assert found.obs["measured"].all()
    assert (found.obs["section_distance"] == 0).all()
    assert (found.obs["source_section"] == f"section{k}").all()
    np.testing.assert_array_equal(found.obsm["spatial"], own.obsm["spatial"])
    np.testing.assert_array_equal(found.X.toarray(), own.X.toarray())
    assert list(found.obs["cell_type"]) == list(own.obs["cell_type"])


def test_a_depth_that_rounding_has_moved_is_still_measured(organ_sections: list[AnnData], fit_kws: Any) -> None:
    stack = isost.pp.slice_stack(organ_sections, z=[0.1, 0.2, 0.3, 0.4], n_comps=3, check=False)
    model = isost.tl.fit(stack, **(fit_kws | {"epochs": 1}))
    found = isost.tl.section(stack, model=model, z=[0.1 + 0.2, 0.1 + 0.3 + 1e-16, 0.4 + 1e-12])
    assert found.obs["measured"].all()
    assert found.n_obs == len(own_cells(stack, 2)) + 2 * len(own_cells(stack, 3))


def test_expression_is_sampled_within_the_range_of_the_data(middle: AnnData, stack: AnnData) -> None:
    assert sp.issparse(middle.X)
    assert middle.X.format == "csr"
    assert middle.X.dtype == stack.X.dtype == np.float32
    sampled, measured = middle.X.toarray(), stack.X.toarray()
    assert (sampled >= measured.min(0)).all()
    assert (sampled <= measured.max(0)).all()
    # as varied as measured cells, which their expectation is not
    spread = sampled.std(0).mean() / own_cells(stack, 1).X.toarray().std(0).mean()
    assert 0.85 < spread < 1.15
    assert middle.layers["mean"].std(0).mean() < 0.9 * sampled.std(0).mean()


def test_sampled_expression_is_near_a_measured_cells_and_follows_the_mean(stack: AnnData, middle: AnnData) -> None:
    measured = stack.X.toarray()
    gene = int(np.argmax(stack.var["kind"] == "gradient"))
    difference = np.abs(middle.X.toarray()[:, None, :] - measured[None]).mean(2).min(1)
    assert 0 < difference.mean() < 0.3  # near some measured cell, but changed
    assert np.abs(middle.X.toarray().mean(0) - middle.layers["mean"].mean(0)).mean() < 0.12
    assert np.corrcoef(middle.X.toarray()[:, gene], middle.layers["mean"][:, gene])[0, 1] > 0.3


def test_without_change_cells_keep_their_donors_expression(stack: AnnData, fit_kws: Any, z: Any) -> None:
    model = isost.tl.fit(stack, **(fit_kws | {"epochs": 2, "expression_shift": 0.0}))
    found = isost.tl.section(stack, model=model, z=(z[0] + z[1]) / 2)
    rows = {tuple(row) for row in stack.X.toarray()}
    assert sum(tuple(row) in rows for row in found.X.toarray()) == found.n_obs


def test_dense_expression_stays_dense(organ_sections: list[AnnData], fit_kws: Any) -> None:
    for dtype in (np.float32, np.float64):
        dense = [section.copy() for section in organ_sections[:2]]
        for section in dense:
            section.X = section.X.toarray().astype(dtype)
        stack = isost.pp.slice_stack(dense, n_comps=4)
        model = isost.tl.fit(stack, **(fit_kws | {"epochs": 2}))
        for depth in (0.0, 20.0):
            found = isost.tl.section(stack, model=model, z=depth)
            assert isinstance(found.X, np.ndarray)
            assert found.X.dtype == dtype


def test_mean_is_that_of_the_volume_at_the_same_place(
    stack: AnnData, model: IsoST, middle: AnnData, z: NDArray[np.float64]
) -> None:
    sections, places = Sections(stack), middle.obsm["spatial"]
    view = sections.stack
    state = view.normalization.encode(places, dims=slice(0, 3))
    gap, t = locate(view.depths, state[0, 2])
    expected = sections.expectation(model)(gap, t, state[:, :2])
    decoded = decode(expected.mean.astype(np.float32), model.loadings, view.gene_mean, view.gene_scale)
    np.testing.assert_allclose(middle.layers["mean"], decoded, atol=1e-6)
    spread = spread_around(stack.X, Surroundings(sections)(places))
    sampling, between = gene_variance(expected, spread, model.loadings, view.gene_scale)
    variance = sampling + model.settings.gap_variance * between
    np.testing.assert_allclose(middle.layers["std"], np.sqrt(variance), rtol=1e-4, atol=1e-7)
    assert middle.layers["mean"].dtype == middle.layers["std"].dtype == np.float32
    # and the volume's own numbers, at its voxels beside the cells
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=6.0)
    layer = np.abs(volume.obsm["spatial"][:, 2] - places[0, 2]) < 3.01
    distance, nearest = cKDTree(volume.obsm["spatial"][layer][:, :2]).query(places[:, :2])
    assert (distance < 4.3).all()
    assert np.abs(volume.X[layer][nearest] - middle.layers["mean"]).max() < 0.25
    assert np.abs(volume.X[layer][nearest] - middle.layers["mean"]).mean() < 0.03


def test_labels_are_the_donors_with_their_share_among_cells_around(middle: AnnData, stack: AnnData) -> None:
    probability = middle.obs["cell_type_probability"]
    assert ((probability >= 0) & (probability <= 1)).all()
    assert probability.mean() > 1.5 / 5  # types lie in layers: likelier among neighbours than by chance
    assert list(middle.obs["cell_type"].cat.categories) == list(stack.obs["cell_type"].cat.categories)
    assert list(middle.uns["cell_type_colors"]) == list(stack.uns["cell_type_colors"])
    assert "section_probability" not in middle.obs
    pd.testing.assert_frame_equal(middle.var, stack.var[["kind"]])


def test_sections_without_labels_give_sections_without_labels(organ_sections: list[AnnData], fit_kws: Any) -> None:
    bare = [section.copy() for section in organ_sections[:2]]
    for section in bare:
        section.obs = section.obs[["section", "z"]]
        section.uns = {}
    stack = isost.pp.slice_stack(bare, n_comps=3)
    model = isost.tl.fit(stack, **(fit_kws | {"epochs": 1}))
    found = isost.tl.section(stack, model=model, z=20.0)
    assert list(found.obs.columns) == ["measured", "source_section", "section_distance"]
    assert set(found.uns) == {"isost"}


def test_several_depths_come_as_numbered_cuts(stack: AnnData, model: IsoST, z: NDArray[np.float64]) -> None:
    depths = [z[2], 20.0, 150.0]
    found = isost.tl.section(stack, model=model, z=depths)
    assert found.obs_names.is_unique
    assert sorted(found.obs["cut"].unique()) == [0, 1, 2]
    for i, depth in enumerate(depths):
        part, alone = found[found.obs["cut"] == i], isost.tl.section(stack, model=model, z=[depth])
        assert (part.obsm["spatial"][:, 2] == depth).all()
        assert (alone.obs["cut"] == 0).all()
        assert abs(part.n_obs - alone.n_obs) <= 1
    for column in ("cell_type", "source_section"):
        assert list(found.obs[column].cat.categories) == list(stack.obs[column.replace("source_", "")].cat.categories)
    assert found.X.format == "csr"
    assert list(found.uns["cell_type_colors"]) == list(stack.uns["cell_type_colors"])
    assert "kind" in found.var
    assert set(layer_names(found)) == {"mean", "std"}


def test_the_seed_decides(
    stack: AnnData, noisy_model: IsoST, z: NDArray[np.float64], assert_same: Callable[..., None]
) -> None:
    first, again, other = (isost.tl.section(stack, model=noisy_model, z=20.0, seed=s) for s in (4, 4, 5))
    assert_same(first, again)
    assert not np.isin(first.obsm["spatial"][:, 0], other.obsm["spatial"][:, 0]).any()


def test_the_stack_is_not_changed(stack: AnnData, noisy_model: IsoST, assert_same: Callable[..., None]) -> None:
    before = stack.copy()
    found = isost.tl.section(stack, model=noisy_model, z=[0.0, 30.0])
    found.X.data[:] = -1
    found.obsm["spatial"][:] = -1
    found.uns["cell_type_colors"][0] = "#000000"
    assert_same(stack, before)


def test_a_model_of_one_direction_carries_the_lower_section_whole(
    stack: AnnData, model: IsoST, z: NDArray[np.float64]
) -> None:
    upwards = IsoST(
        dataclasses.replace(model.settings, dual=False),
        model.forward,
        None,
        normalization=model.normalization,
        genes=model.genes,
        loadings=model.loadings,
        component_variance=model.component_variance,
        cell_variance=model.cell_variance,
    )
    found = isost.tl.section(stack, model=upwards, z=(z[1] + z[2]) / 2)
    assert found.n_obs == len(own_cells(stack, 1))
    assert (found.obs["source_section"] == "section1").all()


def test_a_horizontal_plane_is_a_section(stack: AnnData, model: IsoST, z: NDArray[np.float64]) -> None:
    sizes = stack.obs["section"].value_counts(sort=False).to_numpy()
    for depth in (z[0], z[1], 90.0, 93.1, z[3]):
        flat = isost.tl.section(stack, model=model, plane=([10.0, -5.0, depth], [0.0, 0.0, -2.0]))
        wanted = np.interp(depth, z, sizes)
        assert 0.93 * wanted < flat.n_obs < 1.07 * wanted
        np.testing.assert_allclose(flat.obsm["plane"], flat.obsm["spatial"][:, :2] - [10.0, -5.0], atol=1e-9)
    parallel = isost.tl.section(stack, model=model, z=93.1)
    flat = isost.tl.section(stack, model=model, plane=([0.0, 0.0, 93.1], [0.0, 0.0, 1.0]))
    features = [
        np.column_stack([part.obsm["spatial"][:, :2] / 100, part.layers["mean"][:, :6]]) for part in (flat, parallel)
    ]
    elsewhere = isost.tl.section(stack, model=model, z=z[0])
    far = np.column_stack([elsewhere.obsm["spatial"][:, :2] / 100, elsewhere.layers["mean"][:, :6]])
    assert energy_distance(*features) < 0.2 * energy_distance(features[0], far)


@pytest.mark.parametrize("normal", [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.3, -0.5, 0.2)])
def test_cells_of_a_plane_lie_in_its_slab_and_map_onto_it(stack: AnnData, model: IsoST, normal: Any) -> None:
    origin, unit = np.array([-120.0, 80.0, 90.0]), np.array(normal) / np.linalg.norm(normal)
    thickness = 20.0
    found = isost.tl.section(stack, model=model, plane=(origin, normal), thickness=thickness)
    assert found.n_obs > 30
    places, plane = found.obsm["spatial"], found.obsm["plane"]
    off = (places - origin) @ unit
    assert (np.abs(off) <= thickness / 2 + 1e-9).all()
    assert np.abs(off.mean()) < 3
    assert np.ptp(places[:, 2]) > 100
    # distances in the plane are those of the places' shadows on it
    shadow = places - off[:, None] * unit - origin
    np.testing.assert_allclose(np.linalg.norm(plane, axis=1), np.linalg.norm(shadow, axis=1), atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(plane[1:] - plane[0], axis=1), np.linalg.norm(shadow[1:] - shadow[0], axis=1), atol=1e-9
    )
    assert found.obsm["plane"].shape == (found.n_obs, 2)


def test_a_default_slab_holds_as_many_cells_to_the_area_as_a_section(fit_kws: Any) -> None:
    even = isost.datasets.organ(n_sections=4, cells_per_section=300, n_genes=20, gap=40.0)
    stack = isost.pp.slice_stack(even, n_comps=3)
    model = isost.tl.fit(stack, **(fit_kws | {"epochs": 3, "expression_shift": 0.0}))
    measured = spacing(own_cells(stack, 2).obsm["spatial"][:, :2])
    for normal in ([0.0, 1.0, 0.0], [1.0, 0.0, 1.0]):
        plane = ([0.0, 100.0, 60.0], normal)
        cut = isost.tl.section(stack, model=model, plane=plane)
        assert 0.6 < spacing(cut.obsm["plane"]) / measured < 1.3
        thin = isost.tl.section(stack, model=model, plane=plane, thickness=measured / 2)
        assert 0.35 < thin.n_obs / cut.n_obs < 0.65


@pytest.mark.parametrize("normal", [(0.0, 1.0, 0.0), (1.0, 0.0, 1.0)])
def test_a_plane_rarely_shows_one_cell_twice_side_by_side(stack: AnnData, model: IsoST, normal: Any) -> None:
    numbered = stack.copy()
    numbered.obs["row"] = np.arange(stack.n_obs)
    cut = isost.tl.section(numbered, model=model, plane=([40.0, 100.0, 90.0], normal), obs=["row"])
    measured, donor = spacing(own_cells(stack, 2).obsm["spatial"][:, :2]), cut.obs["row"].to_numpy()
    pairs = cKDTree(cut.obsm["spatial"]).query_pairs(0.75 * measured, output_type="ndarray")
    twice = np.unique(pairs[donor[pairs[:, 0]] == donor[pairs[:, 1]]])
    assert len(twice) < 0.08 * cut.n_obs


def test_several_planes_come_as_numbered_cuts(stack: AnnData, model: IsoST) -> None:
    planes = [([0.0, 0.0, 90.0], [0.0, 0.0, 1.0]), ([100.0, 0.0, 90.0], [1.0, 0.0, 0.0])]
    found = isost.tl.section(stack, model=model, plane=planes)
    assert sorted(found.obs["cut"].unique()) == [0, 1]
    assert found.obs_names.is_unique
    assert found.obsm["plane"].shape == (found.n_obs, 2)
    assert np.abs(found[found.obs["cut"] == 1].obsm["spatial"][:, 0] - 100.0).max() < 20
    single = isost.tl.section(stack, model=model, plane=np.array(planes[0]))
    assert "cut" not in single.obs


def test_a_plane_that_meets_no_cell_gives_none(stack: AnnData, model: IsoST) -> None:
    places = stack.obsm["spatial"]
    corner = [places[:, 0].max(), places[:, 1].min(), 0.0]  # of the box around the tissue, which is round
    found = isost.tl.section(stack, model=model, plane=(corner, [1.0, -1.0, 0.0]))
    assert found.shape == (0, stack.n_vars)
    assert {"mean", "std"} <= set(found.layers)


def test_depths_outside_the_stack_are_refused(stack: AnnData, model: IsoST) -> None:
    for depth in (-0.1, 180.5, [20.0, 181.0], np.nan):
        with pytest.raises(ValueError, match=r"outside the stack, whose sections span z = 0 to 180"):
            isost.tl.section(stack, model=model, z=depth)


def test_requests_that_make_no_sense_are_refused(stack: AnnData, model: IsoST) -> None:
    plane = ([0.0, 0.0, 90.0], [0.0, 0.0, 1.0])
    for kws, message in (
        ({}, "one of z= .* and plane="),
        ({"z": 1.0, "plane": plane}, "one of z= .* and plane="),
        ({"z": 1.0, "thickness": 3.0}, "thickness= belongs to plane="),
        ({"z": []}, "z= is an empty list"),
        ({"plane": []}, "plane= is an empty list"),
        ({"plane": plane, "thickness": 0.0}, "thickness must be a positive number, got 0"),
        ({"plane": plane, "thickness": -1.0}, "thickness must be"),
        ({"plane": plane, "thickness": np.nan}, "thickness must be"),
        ({"plane": plane, "thickness": np.inf}, "thickness must be"),
        ({"plane": ([0.0, 0.0, 90.0], [0.0, 0.0, 0.0])}, "not all zero"),
        ({"plane": ([0.0, 0.0], [0.0, 0.0, 1.0])}, "three numbers each"),
        ({"plane": ([0.0, 0.0, np.nan], [0.0, 0.0, 1.0])}, "three numbers each"),
        ({"plane": [plane, ([0.0, 0.0, 1.0],)]}, "three numbers each"),
        ({"plane": (0.0, 0.0, 1.0)}, "three numbers each"),
        ({"plane": ([0.0, 0.0, 900.0], [0.0, 0.0, 1.0])}, "does not meet the stack, .* z = 0 to 180"),
    ):
        with pytest.raises(ValueError, match=message):
            isost.tl.section(stack, model=model, **kws)


def test_a_model_of_other_sections_is_refused(organ_sections: list[AnnData], model: IsoST) -> None:
    other = isost.pp.slice_stack(organ_sections[:2], n_comps=model.settings.n_comps)
    with pytest.raises(ValueError, match=r"another normalisation; call isost\.tl\.fit on this stack"):
        isost.tl.section(other, model=model, z=10.0)


def test_sections_instead_of_a_stack_are_refused(organ_sections: list[AnnData], model: IsoST) -> None:
    with pytest.raises(TypeError, match=r"not list; call isost\.pp\.slice_stack"):
        isost.tl.section(organ_sections, model=model, z=10.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not a stack.*call isost\.pp\.slice_stack"):
        isost.tl.section(organ_sections[0], model=model, z=10.0)


def test_what_was_cut_is_written_down(stack: AnnData, model: IsoST, z: NDArray[np.float64], tmp_path: Path) -> None:
    depths = [float(z[0]), float(z[:2].mean())]
    by_depth = isost.tl.section(stack, model=model, z=depths, seed=3)
    params = by_depth.uns["isost"]["params"]
    assert (params["seed"], params["model"]) == (3, repr(model))
    np.testing.assert_allclose(params["z"], depths)
    origin = stack.obsm["spatial"].mean(0)
    by_plane = isost.tl.section(stack, model=model, plane=[(origin, (1, 0, 1)), (origin, (0, 2, 0))], thickness=15.0)
    params = by_plane.uns["isost"]["params"]
    np.testing.assert_allclose(params["origin"], [origin] * 2)
    np.testing.assert_allclose(params["normal"], [[0.5**0.5, 0, 0.5**0.5], [0, 1, 0]])
    assert params["thickness"] == 15.0
    isost.io.write(by_plane, tmp_path / "cut.h5ad")
    np.testing.assert_array_equal(
        isost.io.read(tmp_path / "cut.h5ad").uns["isost"]["params"]["normal"], params["normal"]
    )


def test_standard_errors_of_many_genes_are_made_in_parts(
    stack: AnnData, model: IsoST, middle: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_section, "_MOST_NUMBERS", 7 * middle.n_obs)
    parts = isost.tl.section(stack, model=model, z=float(middle.obsm["spatial"][0, 2]))
    np.testing.assert_allclose(parts.layers["std"], middle.layers["std"], rtol=1e-5)
