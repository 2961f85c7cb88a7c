from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from isost.tl._inputs import Sections
from isost.tl._labels import label_columns

if TYPE_CHECKING:
    from anndata import AnnData


@pytest.fixture
def labelled(stack: AnnData) -> AnnData:
    """With a label that some cells lack, and one that all share."""
    copied = stack.copy()
    clones = pd.Series(np.where(np.arange(copied.n_obs) % 3 == 0, None, "a"), index=copied.obs_names)
    copied.obs["clone"] = pd.Categorical(clones, categories=["a", "b"])
    copied.obs["animal"] = pd.Categorical(["mouse"] * copied.n_obs)
    copied.obs["score"] = 1.5
    return copied


def places_of(stack: AnnData, n: int, *, depth: float | None = None) -> Any:
    rng = np.random.default_rng(0)
    donor = rng.integers(0, stack.n_obs, n)
    place = stack.obsm["spatial"][donor].copy()
    place[:, 2] = rng.uniform(0, 180, n) if depth is None else depth
    return donor, place


def test_categories_of_the_donor_come_along(labelled: AnnData) -> None:
    donor, place = places_of(labelled, 50)
    found = label_columns(labelled, Sections(labelled), donor, place)
    assert list(found.columns) == [
        *("cell_type", "clone", "animal"),
        *(f"{name}_probability" for name in ("cell_type", "clone", "animal")),
    ]
    for name in ("cell_type", "clone", "animal"):
        assert found[name].tolist() == pytest.approx(labelled.obs[name].iloc[donor].tolist(), nan_ok=True)
        assert found[name].dtype == labelled.obs[name].dtype


def test_probabilities_are_shares_among_the_cells_around(labelled: AnnData) -> None:
    donor, place = places_of(labelled, 60)
    found = label_columns(labelled, Sections(labelled), donor, place)
    z = labelled.uns["isost"]["sections"]["z"]
    types = labelled.obs["cell_type"].to_numpy()
    for i in range(len(donor)):
        gap = int(np.searchsorted(z, place[i, 2]) - 1)
        t = (place[i, 2] - z[gap]) / (z[gap + 1] - z[gap])
        share = 0.0
        for section, weight in ((gap, 1 - t), (gap + 1, t)):
            rows = np.flatnonzero(labelled.obsm["spatial"][:, 2] == z[section])
            distance = np.linalg.norm(labelled.obsm["spatial"][rows, :2] - place[i, :2], axis=1)
            nearest = rows[np.argsort(distance)[:20]]
            share += weight * np.mean(types[nearest] == types[donor[i]])
        assert found["cell_type_probability"].iloc[i] == pytest.approx(share, abs=1e-6)


def test_a_label_that_all_share_is_certain_and_one_that_is_missing_has_no_share(labelled: AnnData) -> None:
    donor, place = places_of(labelled, 300)
    found = label_columns(labelled, Sections(labelled), donor, place)
    assert found["animal_probability"].max() <= 1.0
    np.testing.assert_allclose(found["animal_probability"], 1.0)
    assert found["clone_probability"].isna().tolist() == found["clone"].isna().tolist()
    assert found["clone_probability"].dropna().between(0, 1).all()


def test_at_a_section_only_its_own_cells_count(labelled: AnnData) -> None:
    z = labelled.uns["isost"]["sections"]["z"]
    labelled.obs["where"] = labelled.obs["section"].astype(str).astype("category")
    donor, place = places_of(labelled, 40, depth=z[1])
    found = label_columns(labelled, Sections(labelled), donor, place)
    np.testing.assert_allclose(found["where_probability"], found["where"] == "section1", atol=1e-12)


def test_sections_without_categories_have_no_columns(labelled: AnnData) -> None:
    labelled.obs = labelled.obs[["section", "score"]]
    donor, place = places_of(labelled, 5)
    found = label_columns(labelled, Sections(labelled), donor, place)
    assert found.shape == (5, 0)


def test_small_sections_share_over_what_they_have(labelled: AnnData) -> None:
    few = labelled[labelled.obs.groupby("section", observed=True).head(8).index].copy()
    donor, place = places_of(few, 20)
    found = label_columns(few, Sections(few), donor, place)
    np.testing.assert_allclose(found["animal_probability"], 1.0)
