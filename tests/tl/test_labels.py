from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from isost.tl import _labels
from isost.tl._inputs import Sections
from isost.tl._labels import categorical_columns, check_labels, label_columns, probable_labels
from isost.tl._surroundings import Surroundings

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


def labels_at(stack: AnnData, donor: Any, place: Any) -> pd.DataFrame:
    return label_columns(stack, Surroundings(Sections(stack))(place), donor)


def test_categories_of_the_donor_come_along(labelled: AnnData) -> None:
    donor, place = places_of(labelled, 50)
    found = labels_at(labelled, donor, place)
    assert list(found.columns) == [
        *("cell_type", "clone", "animal"),
        *(f"{name}_probability" for name in ("cell_type", "clone", "animal")),
    ]
    for name in ("cell_type", "clone", "animal"):
        assert found[name].tolist() == pytest.approx(labelled.obs[name].iloc[donor].tolist(), nan_ok=True)
        assert found[name].dtype == labelled.obs[name].dtype


def weights_at(stack: AnnData, place: Any) -> Any:
    """Slow: weight of every measured cell (n, cells) around places that lie inside gaps."""
    z, places = stack.uns["isost"]["sections"]["z"], stack.obsm["spatial"]
    weights = np.zeros((len(place), stack.n_obs))
    for i, (x, y, depth) in enumerate(place):
        gap = int(np.searchsorted(z, depth) - 1)
        t = (depth - z[gap]) / (z[gap + 1] - z[gap])
        for section, share in ((gap, 1 - t), (gap + 1, t)):
            rows = np.flatnonzero(places[:, 2] == z[section])
            distance = np.hypot(*(places[rows, :2] - [x, y]).T)
            weights[i, rows[np.argsort(distance)[:12]]] = share / 12
    return weights


def test_the_cells_around_are_the_nearest_of_both_sections(labelled: AnnData) -> None:
    _, place = places_of(labelled, 60)
    found = Surroundings(Sections(labelled))(place)
    np.testing.assert_allclose(found.toarray(), weights_at(labelled, place), atol=1e-6)


def test_probabilities_are_shares_among_the_cells_around(labelled: AnnData) -> None:
    donor, place = places_of(labelled, 60)
    found = labels_at(labelled, donor, place)
    types = labelled.obs["cell_type"].to_numpy()
    same = types[donor][:, None] == types
    shares = (weights_at(labelled, place) * same).sum(1)
    np.testing.assert_allclose(found["cell_type_probability"], shares, atol=1e-6)


def test_the_most_probable_label_has_the_largest_share(labelled: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_labels, "_MOST_NUMBERS", 100)
    _, place = places_of(labelled, 60)
    found = probable_labels(labelled, Sections(labelled), place)
    weights = weights_at(labelled, place)
    for name in ("cell_type", "clone", "animal"):
        categories = list(labelled.obs[name].cat.categories)
        shares = np.column_stack([(weights * (labelled.obs[name] == label).to_numpy()).sum(1) for label in categories])
        np.testing.assert_allclose(found[f"{name}_probability"], shares.max(1), atol=1e-6)
        chosen = shares[np.arange(60), found[name].cat.codes]
        np.testing.assert_allclose(chosen, shares.max(1), atol=1e-6)
        assert found[name].dtype == labelled.obs[name].dtype


def test_where_no_cell_has_a_label_none_is_probable(labelled: AnnData) -> None:
    labelled.obs["clone"] = pd.Categorical([None] * labelled.n_obs, categories=["a"])
    labelled.obs["empty"] = pd.Categorical([None] * labelled.n_obs, categories=[])
    found = probable_labels(labelled, Sections(labelled), places_of(labelled, 10)[1])
    assert found[["clone", "clone_probability", "empty", "empty_probability"]].isna().all(axis=None)


def test_names_that_isost_writes_are_no_labels(labelled: AnnData) -> None:
    labelled.obs["source_section"] = labelled.obs["section"]
    labelled.obs["measured"] = pd.Categorical(["yes"] * labelled.n_obs)
    assert categorical_columns(labelled) == ["cell_type", "clone", "animal"]


def test_a_label_that_all_share_is_certain_and_one_that_is_missing_has_no_share(labelled: AnnData) -> None:
    donor, place = places_of(labelled, 300)
    found = labels_at(labelled, donor, place)
    assert found["animal_probability"].max() <= 1.0
    np.testing.assert_allclose(found["animal_probability"], 1.0)
    assert found["clone_probability"].isna().tolist() == found["clone"].isna().tolist()
    assert found["clone_probability"].dropna().between(0, 1).all()


def test_at_a_section_only_its_own_cells_count(labelled: AnnData) -> None:
    z = labelled.uns["isost"]["sections"]["z"]
    where = labelled.obs["section"].astype(str)
    where.iloc[-1] = "section1"  # what is the same all over each section is no label
    labelled.obs["where"] = where.astype("category")
    donor, place = places_of(labelled, 40, depth=z[1])
    found = labels_at(labelled, donor, place)
    np.testing.assert_allclose(found["where_probability"], found["where"] == "section1", atol=1e-12)


def test_sections_without_categories_have_no_columns(labelled: AnnData) -> None:
    labelled.obs = labelled.obs[["section", "score"]]
    donor, place = places_of(labelled, 5)
    found = labels_at(labelled, donor, place)
    assert found.shape == (5, 0)
    assert probable_labels(labelled, Sections(labelled), place).shape == (5, 0)


def test_small_sections_share_over_what_they_have(labelled: AnnData) -> None:
    few = labelled[labelled.obs.groupby("section", observed=True).head(8).index].copy()
    donor, place = places_of(few, 20)
    found = labels_at(few, donor, place)
    np.testing.assert_allclose(found["animal_probability"], 1.0)


def test_what_names_sections_is_no_label(labelled: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="isost")
    kept = categorical_columns(labelled)
    names = labelled.obs["section"].cat.codes.astype(str)
    labelled.obs["slice_id"] = names.astype("category")
    labelled.obs["batch"] = names.where(names > "0", "1").where(names < "3").astype("category")
    assert categorical_columns(labelled) == kept
    check_labels(labelled)
    assert "labels batch, slice_id are not carried over" in caplog.text
    labelled.obs.iloc[0, labelled.obs.columns.get_loc("slice_id")] = "2"
    assert "slice_id" in categorical_columns(labelled)


def test_labels_that_would_be_lost_are_told(labelled: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    check_labels(labelled)
    assert not caplog.records
    labelled.obs["density"] = labelled.obs["animal"]
    check_labels(labelled)
    assert "labels obs['density'] are not carried over" in caplog.text
    labelled.obs["animal_probability"] = labelled.obs["animal"]
    with pytest.raises(ValueError, match=r"'animal' and 'animal_probability'.* rename one of them in the stack"):
        check_labels(labelled)


def test_columns_that_name_sections_are_told_from_labels() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        n = rng.integers(0, 12)
        section = rng.integers(0, 3, n)
        codes = np.where(rng.random(n) < 0.2, -1, section if rng.random() < 0.5 else rng.integers(0, 3, n))
        pairs = {(own, code) for own, code in zip(section, codes, strict=True) if code >= 0}
        names_them = len({own for own, _ in pairs}) == len(pairs) and len({code for _, code in pairs}) > 1
        labels = pd.Series(pd.Categorical.from_codes(codes, categories=list("abc")))
        own = pd.Series(pd.Categorical.from_codes(section, categories=list("xyz")))
        found.append(_labels._names_sections(labels, own))
        assert found[-1] == names_them
    assert 20 < sum(found) < 180
