from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import isost
from isost.tl._inputs import Sections
from isost.tl._surroundings import Surroundings
from isost.tl._values import CarriedValues

if TYPE_CHECKING:
    from anndata import AnnData

    from isost.model import IsoST


@pytest.fixture
def measured(stack: AnnData) -> AnnData:
    """With numbers of every sort, some missing."""
    copied, n = stack.copy(), stack.n_obs
    rng = np.random.default_rng(0)
    copied.obs["score"] = np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)).astype(np.float32)
    copied.obs["counts"] = rng.integers(0, 9, n)
    copied.obs["cycling"] = rng.random(n) < 0.4
    copied.obs["maybe"] = pd.array([True, None] * (n // 2) + [False] * (n % 2), dtype="boolean")
    copied.obs["note"] = "a"
    copied.obs["cell_type_probability"] = 1.0
    copied.obs["counts_mean"] = 1.0
    copied.obsm["X_umap"] = rng.normal(size=(n, 2)).astype(np.float32)
    copied.obsm["words"] = np.full((n, 2), "a")
    copied.obsm["table"] = pd.DataFrame({"a": np.zeros(n)}, index=copied.obs_names)
    return copied


def test_own_values_and_their_mean_around_come_along(measured: AnnData) -> None:
    rng = np.random.default_rng(1)
    donor = rng.integers(0, measured.n_obs, 40)
    place = measured.obsm["spatial"][donor]
    place[:, 2] = rng.uniform(0, 180, 40)
    around = Surroundings(Sections(measured))(place)
    names = ["score", "counts", "cycling", "maybe"]
    values = CarriedValues(measured, obs=names, obsm=["X_umap"])
    columns, arrays = values.columns(around, donor), values.arrays(around, donor)
    assert list(columns) == [*names, *(f"{name}_mean" for name in names)]
    weights = around.toarray()
    for name in names:
        own = measured.obs[name].iloc[donor]
        assert columns[name].dtype == own.dtype
        pd.testing.assert_series_equal(columns[name], own, check_index=False, check_names=False)
        numbers = measured.obs[name].to_numpy(np.float64, na_value=np.nan)
        known = ~np.isnan(numbers)
        slow = (weights[:, known] @ numbers[known]) / weights[:, known].sum(1)
        np.testing.assert_allclose(columns[f"{name}_mean"], slow)
    np.testing.assert_array_equal(arrays["X_umap"], measured.obsm["X_umap"][donor])
    np.testing.assert_allclose(arrays["X_umap_mean"], weights @ measured.obsm["X_umap"].astype(float))


def test_what_no_cell_around_has_is_missing(measured: AnnData) -> None:
    measured.obs["score"] = np.nan
    donor = np.arange(5)
    around = Surroundings(Sections(measured))(measured.obsm["spatial"][donor])
    assert np.isnan(CarriedValues(measured, obs=["score"], obsm=None).columns(around, donor)["score_mean"]).all()


def test_a_linear_number_is_expected_where_it_belongs(measured: AnnData, model: IsoST) -> None:
    measured.obs["height"] = measured.obsm["spatial"][:, 2]
    depths = [30.0, 100.0]
    found = isost.tl.section(measured, model=model, z=depths, obs=["height", "cycling"], obsm=["X_umap"])
    np.testing.assert_allclose(found.obs["height_mean"], found.obsm["spatial"][:, 2])
    heights = dict(zip(measured.uns["isost"]["sections"]["names"], measured.uns["isost"]["sections"]["z"], strict=True))
    np.testing.assert_allclose(found.obs["height"], found.obs["source_section"].astype(str).map(heights))
    assert found.obs["cycling"].dtype == bool
    assert found.obs["cycling_mean"].between(0, 1).all()
    assert found.obsm["X_umap"].shape == found.obsm["X_umap_mean"].shape == (found.n_obs, 2)
    by_plane = isost.tl.section(measured, model=model, plane=([0, 0, 90], [0, 1, 0]), obs=["height"], obsm=["X_umap"])
    assert {"spatial", "plane", "X_umap", "X_umap_mean"} == set(by_plane.obsm)
    np.testing.assert_allclose(by_plane.obs["height_mean"], by_plane.obsm["spatial"][:, 2], atol=1e-9)


@pytest.mark.parametrize(
    ("kws", "error", "message"),
    [
        ({"obs": ["nosuch"]}, KeyError, "obs= names 'nosuch', which the stack's obs lacks"),
        ({"obsm": ["X_pca"]}, KeyError, "obsm= names 'X_pca', which the stack's obsm lacks; it has"),
        ({"obs": ["cell_type"]}, ValueError, r"obs\['cell_type'\] is not numeric; categorical .* without being named"),
        ({"obs": ["note"]}, ValueError, r"obs\['note'\] is not numeric"),
        ({"obsm": ["words"]}, ValueError, r"obsm\['words'\] is not numeric"),
        ({"obsm": ["table"]}, ValueError, r"obsm\['table'\] is not numeric"),
        ({"obs": ["cell_type_probability"]}, ValueError, r"obs\['cell_type_probability'\] is written already; rename"),
        ({"obs": ["counts", "counts_mean"]}, ValueError, r"'counts_mean', but obs\['counts_mean'\] is written already"),
        ({"obs": ["counts", "counts"]}, ValueError, "names 'counts', but .* is written already"),
        ({"obsm": ["spatial"]}, ValueError, r"obsm\['spatial'\] is written already"),
        ({"obsm": ["X_isost"]}, ValueError, r"obsm\['X_isost'\] is written already"),
        ({"obs": "counts"}, TypeError, r"obs must be a list of names, .* pass obs=\['counts'\]"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(
    measured: AnnData, model: IsoST, kws: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        isost.tl.section(measured, model=model, z=20.0, **kws)
