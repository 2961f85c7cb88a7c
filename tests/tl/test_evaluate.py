from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import isost
from isost.tl import _evaluate

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

FIT = {"epochs": 5, "hidden_dim": 16}
SUMMARY = ["r_cell", "r_voxel", "r_density", "energy", "d_moran", "var_ratio", "n_ratio", "agree"]
OF_GENES = ["morans_i", "r_cell", "r_voxel", "d_moran", "var_ratio", "agree"]
METHODS = ["isost", "copy", "dissolve", "linear", "local", "self"]


@pytest.fixture(scope="module")
def organ() -> list[ad.AnnData]:
    """Six sections of the organ with dense expression, named section0 to section5 from below."""
    sections = isost.datasets.organ(n_sections=6, cells_per_section=120, n_genes=24)
    for section in sections:
        section.X = section.X.toarray()
    return sections


@pytest.fixture(scope="module")
def two_together(organ: list[ad.AnnData]) -> pd.DataFrame:
    """Two adjacent sections held out in one fit."""
    return isost.tl.evaluate(organ, hold_out=[2, 3], n_genes=10, fit_kws=FIT, progress=False)


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        pytest.fail("a model was fitted")

    monkeypatch.setattr(_evaluate, "fit", fit)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What fits were asked for; instead of a model's, the lowest section's cells are handed out."""
    seen: list[dict[str, Any]] = []

    def fit(stack: ad.AnnData, **kwargs: Any) -> None:
        seen.append({"stack": stack, **kwargs})

    def section(stack: ad.AnnData, *, model: None, z: float, seed: int) -> ad.AnnData:
        seen[-1].setdefault("z", []).append(z)
        cells = stack[:100].copy()
        cells.layers["mean"] = cells.X.toarray() if sp.issparse(cells.X) else cells.X
        return cells

    monkeypatch.setattr(_evaluate, "fit", fit)
    monkeypatch.setattr(_evaluate, "section", section)
    return seen


def test_scores_are_those_of_the_definition(
    fidelity: ModuleType,
    organ: list[ad.AnnData],
    two_together: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = [2, 3]
    monkeypatch.setattr(isost.tl, "fit", partial(isost.tl.fit, **FIT, progress=False))
    truth = {h: (organ[h].obsm["spatial"], np.asarray(organ[h].X, dtype=float)) for h in held}
    draws = [fidelity.baselines(organ, held, seed) for seed in range(5)]
    expected = {
        name: pd.concat([fidelity.score(draw[name], truth, 10) for draw in draws], axis=1).mean(axis=1)
        for name in METHODS[1:]
    }
    generated, _ = fidelity.isost_sections(organ, held)
    expected["isost"] = fidelity.score(generated, truth, 10)
    ours = two_together.loc["mean", "all"]
    for method in METHODS:
        np.testing.assert_allclose(ours[method], expected[method], atol=1e-9, rtol=0, err_msg=method)


def test_one_table_holds_means_sections_and_genes(two_together: pd.DataFrame, organ: list[ad.AnnData]) -> None:
    scores = two_together
    assert list(scores.columns) == [*METHODS, "verdict"]
    assert list(scores.index.names) == ["section", "gene", "metric"]
    assert scores.index.is_unique
    assert list(scores.xs("all", level="gene").index.unique("section")) == ["mean", "section2", "section3"]
    overall = scores.loc["mean", "all"]
    assert list(overall.index) == SUMMARY
    each = scores.loc[["section2", "section3"]][METHODS]
    pd.testing.assert_frame_equal(each.groupby(level="metric", sort=False).mean(), overall[METHODS])
    genes = scores.loc["mean"].drop("all")
    assert list(genes.index.unique("gene")) == list(organ[0].var_names)
    assert list(genes.loc[organ[0].var_names[3]].index) == OF_GENES
    assert scores[METHODS].notna().all(axis=None)
    assert (scores["self"].xs("d_moran", level="metric") == 0).all()


def test_rows_of_genes_are_means_of_per_gene(two_together: pd.DataFrame, organ: list[ad.AnnData]) -> None:
    def as_section(k: int) -> isost.metrics.Section:
        return isost.metrics.Section(organ[k].obsm["spatial"], organ[k].X, z=float(organ[k].obs["z"].iloc[0]))

    below, above = as_section(1), as_section(4)
    tables = []
    for k in (2, 3):
        measured = as_section(k)
        made = isost.metrics.baseline("copy", below, above, z=measured.z)
        tables.append(isost.metrics.per_gene(made, measured))
    for metric in OF_GENES:
        rows = two_together.loc["mean"].drop("all").xs(metric, level="metric")
        np.testing.assert_allclose(rows["copy"], (tables[0][metric] + tables[1][metric]) / 2)
    r_voxel = two_together.loc["mean"].drop("all").xs("r_voxel", level="metric")
    assert r_voxel["verdict"].tolist() == ["trust" if r >= 0.5 else "do not trust" for r in r_voxel["isost"]]


def test_every_metric_has_a_verdict_and_it_is_logged(
    organ: list[ad.AnnData], seen: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="isost"):
        scores = isost.tl.evaluate(organ, hold_out="section2", progress=False)
    for metric, words in scores["verdict"].loc["mean", "all"].items():
        assert f"{metric}: {words}" in caplog.messages
    start = r"(better than|worse than|on a par with) (copy|dissolve|linear|local) "
    words = scores["verdict"].xs("all", level="gene").drop("agree", level="metric")
    assert words.str.match(start).all()
    assert " genes can be trusted; " in words["mean", "r_voxel"]
    assert any("1 section held out in 1 fit" in message.split("; ") for message in caplog.messages)


def test_the_table_survives_a_file(two_together: pd.DataFrame, tmp_path: Path) -> None:
    two_together.to_csv(tmp_path / "scores.csv")
    again = pd.read_csv(tmp_path / "scores.csv", index_col=[0, 1, 2], keep_default_na=False)
    pd.testing.assert_frame_equal(again[METHODS].astype(float), two_together[METHODS])
    assert again["verdict"].tolist() == two_together["verdict"].tolist()


def test_by_default_every_interior_section_is_left_out_in_turn(
    organ: list[ad.AnnData], seen: list[dict[str, Any]]
) -> None:
    shuffled = {name: organ[k] for name, k in {"c": 2, "a": 0, "d": 3, "b": 1}.items()}
    scores = isost.tl.evaluate(shuffled, fit_kws={"lr": 0.1}, seed=7, progress=False)
    assert [list(fit["stack"].obs["section"].cat.categories) for fit in seen] == [["a", "c", "d"], ["a", "b", "d"]]
    assert [fit["z"] for fit in seen] == [[60.0], [120.0]]
    assert all((fit["lr"], fit["seed"]) == (0.1, 7) for fit in seen)
    assert list(scores.index.unique("section")) == ["mean", "b", "c"]


def test_sections_left_out_are_nowhere_in_the_fit(organ: list[ad.AnnData], seen: list[dict[str, Any]]) -> None:
    isost.tl.evaluate(organ, hold_out=["section1", np.int64(3)], progress=False)
    (fit,) = seen
    kept = [organ[k] for k in (0, 2, 4, 5)]
    alone = isost.pp.slice_stack(kept)
    assert fit["stack"].obs_names.equals(alone.obs_names)
    assert np.array_equal(fit["stack"].obsm["X_isost"], alone.obsm["X_isost"])
    assert np.array_equal(fit["stack"].varm["PCs"], alone.varm["PCs"])


@pytest.mark.parametrize("form", ["one AnnData", "stack"])
def test_other_forms_of_the_same_sections(organ: list[ad.AnnData], seen: list[dict[str, Any]], form: str) -> None:
    stack_kws = {"n_comps": 12, "z": [0.0, 10.0, 30.0, 40.0, 50.0, 80.0], "section_key": "slice"}
    named = {f"s{k}": section for k, section in enumerate(organ)}
    expected = isost.tl.evaluate(named, hold_out=[2], stack_kws=stack_kws, progress=False)
    one = ad.concat(named, label="slice")
    if form == "stack":
        given = isost.pp.slice_stack(one, **stack_kws)
        scores = isost.tl.evaluate(given, hold_out=[2], progress=False)
    else:
        scores = isost.tl.evaluate(one, hold_out=[2], stack_kws=stack_kws, progress=False)
    pd.testing.assert_frame_equal(scores, expected)
    assert [fit["z"] for fit in seen] == [[30.0]] * 2
    first, second = (fit["stack"] for fit in seen)
    np.testing.assert_allclose(second.obsm["X_isost"], first.obsm["X_isost"], atol=1e-6)
    assert second.obsm["X_isost"].shape[1] == 3 + 12


def test_genes_that_a_section_lacks_are_not_scored(organ: list[ad.AnnData], seen: list[dict[str, Any]]) -> None:
    lacking = [*organ[:2], organ[2][:, 5:], organ[3]]
    scores = isost.tl.evaluate(lacking, hold_out=[2], progress=False)
    assert list(scores.index.unique("gene")) == ["all", *organ[0].var_names[5:]]
    assert seen[0]["stack"].n_vars == organ[0].n_vars


def test_layers_and_sparse_sections(organ: list[ad.AnnData], seen: list[dict[str, Any]]) -> None:
    sparse = isost.datasets.organ(n_sections=6, cells_per_section=120, n_genes=24)
    for section in sparse:
        section.layers["logged"] = section.X
        section.X = section.layers["counts"]
    scores = isost.tl.evaluate(sparse, hold_out=[2], stack_kws={"layer": "logged"}, progress=False)
    pd.testing.assert_frame_equal(scores, isost.tl.evaluate(organ, hold_out=[2], progress=False))


def test_only_the_baselines_asked_for(organ: list[ad.AnnData], seen: list[dict[str, Any]]) -> None:
    scores = isost.tl.evaluate(organ, hold_out=[2], baselines=["self", "linear"], progress=False)
    assert list(scores.columns) == ["isost", "self", "linear", "verdict"]
    without = isost.tl.evaluate(organ, hold_out=[2], baselines=[], progress=False)
    assert list(without.columns) == ["isost", "verdict"]
    assert without.loc[("mean", "all", "energy"), "verdict"] == "not compared: no baseline beside it"


def test_nothing_of_the_callers_is_changed(organ: list[ad.AnnData]) -> None:
    given = [section.copy() for section in organ[:3]]
    stack_kws, fit_kws = {"z": [0.0, 1.0, 2.0], "n_comps": 5}, dict(FIT)
    isost.tl.evaluate(given, stack_kws=stack_kws, fit_kws=fit_kws, progress=False)
    assert stack_kws == {"z": [0.0, 1.0, 2.0], "n_comps": 5}
    assert fit_kws == FIT
    for now, before in zip(given, organ, strict=False):
        assert np.array_equal(now.X, before.X)
        assert np.array_equal(now.obsm["spatial"], before.obsm["spatial"])
        assert list(now.obsm) == list(before.obsm)
        assert list(now.uns) == list(before.uns)
        pd.testing.assert_frame_equal(now.obs, before.obs)


def test_progress_shows_the_only_fit_but_not_one_of_many(
    organ: list[ad.AnnData], seen: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    isost.tl.evaluate(organ[:4], progress=True)
    isost.tl.evaluate(organ[:4], hold_out=1, progress=True)
    assert [fit["progress"] for fit in seen] == [False, False, True]
    assert "evaluate: 100%" in capsys.readouterr().err
    isost.tl.evaluate(organ[:4], hold_out=1, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("no_fit")
@pytest.mark.parametrize(
    ("kwargs", "error", "said"),
    [
        ({"hold_out": [0]}, ValueError, "section 'section0' is the first in z order"),
        ({"hold_out": ["section5"]}, ValueError, "section 'section5' is the last in z order"),
        ({"hold_out": ["brain"]}, KeyError, "section 'brain' that is not there; choose from"),
        ({"hold_out": [6]}, ValueError, "section number 6, but they are numbered 0 to 5"),
        ({"hold_out": [-2]}, ValueError, "section number -2"),
        ({"hold_out": []}, ValueError, "at least one section"),
        ({"hold_out": [1, "section1"]}, ValueError, "each once"),
        ({"baselines": ["cubic"]}, ValueError, "baselines must be a list of some of copy, dissolve"),
        ({"baselines": "linear"}, ValueError, "but is 'linear'"),
        ({"n_genes": 0}, ValueError, "n_genes must be at least 1"),
        ({"fit_kws": {"checkpoint_dir": "here"}}, ValueError, "has seen the held-out sections"),
        ({"stack_kws": {"spatial_key": "xy"}}, KeyError, "section 'section0' has no obsm"),
        ({"stack_kws": {"z": [1.0, 2.0]}}, ValueError, "z= must hold one depth"),
        ({"stack_kws": {"layer": "raw"}}, KeyError, "no layer 'raw'"),
        ({"stack_kws": {"unknown": 1}, "hold_out": 1}, TypeError, "unknown"),
    ],
)
def test_bad_requests_fail_before_any_fit(
    organ: list[ad.AnnData], kwargs: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        isost.tl.evaluate(organ, progress=False, **kwargs)


@pytest.mark.usefixtures("no_fit")
def test_bad_sections_fail_before_any_fit(organ: list[ad.AnnData]) -> None:
    with pytest.raises(ValueError, match="at least three sections"):
        isost.tl.evaluate(organ[:2])
    with pytest.raises(ValueError, match="a section is called 'mean'"):
        isost.tl.evaluate(dict(zip(["a", "mean", "c"], organ, strict=False)))
    renamed = [section.copy() for section in organ[:3]]
    for section in renamed:
        section.var_names = ["all", *section.var_names[1:]]
    with pytest.raises(ValueError, match="a gene is called 'all'"):
        isost.tl.evaluate(renamed)
    on_a_line = [section.copy() for section in organ[:3]]
    on_a_line[1].obsm["spatial"][:, 1] = 4.0
    with pytest.raises(ValueError, match="section 'section1' cannot be scored: the measured cells lie on one line"):
        isost.tl.evaluate(on_a_line, progress=False)
    with pytest.raises(ValueError, match="has no effect on a stack"):
        isost.tl.evaluate(isost.pp.slice_stack(organ), stack_kws={"n_comps": 3})


def test_a_section_too_scattered_to_bin_says_so(organ: list[ad.AnnData], seen: list[dict[str, Any]]) -> None:
    scattered = [section[:12].copy() for section in organ[:4]]
    corners = np.repeat([[0.0, 0.0], [0.0, 100.0], [100.0, 0.0], [100.0, 100.0]], 3, axis=0)  # three cells a bin
    scattered[1].obsm["spatial"] = corners + np.random.default_rng(0).random((12, 2))
    scores = isost.tl.evaluate(scattered, progress=False, stack_kws={"check": False})
    assert scores.loc[("section1", "all", "r_voxel"), METHODS].isna().all()
    assert scores.loc[("section1", "all", "r_voxel"), "verdict"].startswith("not defined")
    other = scores.loc[("section2", "all", "r_voxel"), METHODS]
    assert scores.loc[("mean", "all", "r_voxel"), METHODS].equals(other)
