from __future__ import annotations

import pickle

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from isost.datasets import Organ, organ


@pytest.fixture(scope="module")
def sections() -> list[ad.AnnData]:
    return organ(seed=3)


@pytest.fixture(scope="module")
def truth(sections) -> Organ:
    return Organ(**sections[0].uns["organ"])


def places(section: ad.AnnData) -> np.ndarray:
    return np.column_stack([section.obsm["spatial"], section.obs["z"]])


def depths(sections: list[ad.AnnData]) -> np.ndarray:
    return np.array([section.obs["z"].iloc[0] for section in sections])


def test_sections_hold_what_the_docstring_says(sections, truth):
    assert len(sections) == 7
    for k, section in enumerate(sections):
        assert section.shape[1] == 200
        assert isinstance(section.X, sp.csr_matrix)
        assert section.X.dtype == np.float32
        counts = section.layers["counts"]
        assert isinstance(counts, sp.csr_matrix)
        assert counts.dtype == np.int32
        assert counts.sum(axis=1).min() > 0
        scale = truth.target_sum / np.asarray(counts.sum(axis=1))
        np.testing.assert_allclose(section.X.toarray(), np.log1p(counts.toarray() * scale), rtol=1e-5)
        assert section.obsm["spatial"].shape == (section.n_obs, 2)
        assert section.obs["z"].nunique() == 1
        assert list(section.obs["section"].cat.categories) == [f"section{k}"]
        assert tuple(section.obs["cell_type"].cat.categories) == truth.cell_types
        assert len(section.uns["cell_type_colors"]) == len(truth.cell_types)
        assert list(section.var_names) == truth.gene_names
        assert section.uns["organ"] == {"seed": 3, "n_genes": 200, "depth": 360.0, "radius": 250.0}
    names = [name for section in sections for name in section.obs_names]
    assert len(set(names)) == len(names)


def test_cell_numbers(sections):
    numbers = np.array([section.n_obs for section in sections])
    assert abs(numbers.mean() - 800) < 1
    assert numbers.max() > 1.3 * numbers.min()


def test_cells_lie_in_the_tissue(sections, truth):
    for section in sections:
        assert truth.inside(places(section)).all()
        assert (truth.surface_distance(places(section)) < 0).all()
        assert (truth.density(places(section)) > 0).all()


def test_gaps_are_even_unless_asked():
    even = depths(organ(n_sections=5, cells_per_section=20, n_genes=20, gap=40.0))
    np.testing.assert_allclose(even, [0, 40, 80, 120, 160])
    uneven = depths(organ(n_sections=5, cells_per_section=20, n_genes=20, gap=40.0, uneven=True))
    assert uneven[0] == 0
    assert uneven[-1] == pytest.approx(160)
    assert np.diff(uneven).min() > 13
    assert np.ptp(np.diff(uneven)) > 5


@pytest.mark.parametrize("n_sections", [2, 3, 6])
def test_sections_span_the_organ_exactly(n_sections):
    for seed in range(8):
        ends = depths(
            Organ(depth=77.7, n_genes=20).sections(n_sections=n_sections, cells_per_section=3, uneven=True, seed=seed)
        )
        assert ends[0] == 0.0
        assert ends[-1] == 77.7


def test_one_section_alone():
    (section,) = organ(n_sections=1, cells_per_section=30, n_genes=20)
    assert section.n_obs == 30
    assert (section.obs["z"] == 0).all()


def test_the_seed_decides_everything_and_global_state_stays():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    small = {"n_sections": 3, "cells_per_section": 60, "n_genes": 30, "uneven": True}
    one, same, other = organ(**small, seed=1), organ(**small, seed=1), organ(**small, seed=2)
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a.X.toarray(), b.X.toarray())
        np.testing.assert_array_equal(places(a), places(b))
        assert (a.obs["cell_type"] == b.obs["cell_type"]).all()
    assert not np.array_equal(places(one[1])[:10], places(other[1])[:10])
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_finer_gaps_cut_the_same_organ():
    coarse = organ(n_sections=4, gap=60.0, cells_per_section=20, n_genes=20)[0]
    fine = organ(n_sections=7, gap=30.0, cells_per_section=20, n_genes=20)[0]
    assert coarse.uns["organ"] == fine.uns["organ"]


def test_truth_is_the_mean_of_many_cells(truth):
    rng = np.random.default_rng(0)
    candidates = rng.uniform([-250, -250, 0], [350, 250, 360], (200, 3))
    for point in candidates[truth.inside(candidates)][:3]:
        cells = truth.cells(np.tile(point, (8_000, 1)), seed=5)
        X = cells.X.toarray().astype(np.float64)
        expected = truth.expected_expression(point[None])[0]
        error = X.std(axis=0) / np.sqrt(len(X))
        assert (np.abs(X.mean(axis=0) - expected) < 5 * error + 3e-4).all()
        z_scores = (X.mean(axis=0) - expected) / np.maximum(error, 1e-12)
        assert np.sqrt((z_scores**2).mean()) < 1.3

        shares = cells.obs["cell_type"].value_counts(normalize=True, sort=False).to_numpy()
        chances = truth.cell_type_probabilities(point[None])[0]
        assert (np.abs(shares - chances) < 5 * np.sqrt(chances * (1 - chances) / len(X)) + 1e-9).all()


def test_sections_scatter_around_the_truth(sections, truth):
    section = sections[2]
    residual = section.X.toarray() - truth.expected_expression(places(section))
    error = residual.std(axis=0) / np.sqrt(section.n_obs)
    assert (np.abs(residual.mean(axis=0)) < 5 * error).all()


def test_cells_at_any_depth(truth):
    section = truth.cells_at(91.5, 120, seed=1, name="between")
    assert section.n_obs == 120
    assert (section.obs["z"] == 91.5).all()
    assert truth.inside(places(section)).all()
    assert set(section.obs["section"]) == {"between"}
    again = truth.cells_at(91.5, 120, seed=1, name="between")
    np.testing.assert_array_equal(section.X.toarray(), again.X.toarray())
    assert (truth.cells_at(91.5, 120, seed=2).obsm["spatial"] != section.obsm["spatial"]).any()


def test_survives_a_file_with_its_truth(sections, truth, tmp_path):
    sections[0].write_h5ad(tmp_path / "section.h5ad")
    back = ad.read_h5ad(tmp_path / "section.h5ad")
    assert Organ(**back.uns["organ"]) == truth
    assert Organ(**back.uns["organ"]).gene_names == truth.gene_names


def test_survives_a_pickle(truth):
    xyz = np.array([[100.0, 20.0, 50.0]])
    wanted = truth.expected_expression(xyz)
    truth.surface_distance(xyz)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(truth)).expected_expression(xyz), wanted)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"n_sections": 0}, "n_sections"),
        ({"cells_per_section": 0}, "cells_per_section"),
        ({"n_genes": 19}, "n_genes"),
        ({"gap": 0.0}, "gap"),
        ({"gap": float("nan")}, "gap"),
        ({"radius": -1.0}, "radius"),
    ],
)
def test_too_small_numbers_are_named(wrong, named):
    with pytest.raises(ValueError, match=f"{named} = "):
        organ(**wrong)


def test_wrong_places_are_named(truth):
    with pytest.raises(ValueError, match=r"shape \(3,\), not \(n, 3\)"):
        truth.inside([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="outside the organ's sections"):
        truth.cells_at(361.0, 10)
    with pytest.raises(ValueError, match="depth = "):
        Organ(depth=0.0)
