from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import isost
from isost.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

METHODS = ["isost", "copy", "dissolve", "linear", "local", "self"]
pytestmark = pytest.mark.usefixtures("settings_as_they_were")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Four sections in files of their own, at depths 0, 60, 120 and 180 in obs["z"]."""
    paths = []
    for i, section in enumerate(isost.datasets.organ(n_sections=4, cells_per_section=60, n_genes=20)):
        paths.append(str(tmp_path / f"s{i}.h5ad"))
        section.write_h5ad(paths[-1])
    return paths


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What evaluations were asked for; their fits are small."""
    calls: list[dict[str, Any]] = []
    thorough = isost.tl.evaluate

    def evaluate(adatas: dict[str, ad.AnnData], **kwargs: Any) -> pd.DataFrame:
        calls.append({"adatas": adatas, **kwargs})
        return thorough(adatas, **kwargs | {"fit_kws": kwargs["fit_kws"] | {"epochs": 2, "hidden_dim": 8}})

    monkeypatch.setattr(isost.tl, "evaluate", evaluate)
    return calls


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ("evaluate", *args))


def test_scores_and_verdict_are_printed_and_written(
    calls: list[dict[str, Any]], files: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "scores.csv"
    result = run(*files, "-o", str(out), "--seed", "3", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert calls[0]["hold_out"] is None
    assert calls[0]["seed"] == 3
    assert calls[0]["fit_kws"] == {"device": "cpu"}
    scores = pd.read_csv(out, index_col=[0, 1, 2], keep_default_na=False)
    assert list(scores.columns) == [*METHODS, "verdict"]
    assert list(scores.index.unique("section")) == ["mean", "s1", "s2"]
    lines = result.stdout.splitlines()
    assert "Means over the held-out sections s1, s2:" in lines
    assert METHODS in [line.split() for line in lines]
    for (_, _, metric), row in scores.query("section == 'mean' and gene == 'all'").iterrows():
        assert [metric, *(f"{float(row[method]):.4f}" for method in METHODS)] in [line.split() for line in lines]
        assert f"{metric:<11}{row['verdict']}" in lines
    assert str(out) in result.stdout


@pytest.mark.parametrize("given", [["--hold-out", "2", "--hold-out", "s1"], ["--hold-out", "s2", "--hold-out", "1"]])
def test_sections_are_held_out_by_name_or_number(
    calls: list[dict[str, Any]], files: list[str], given: list[str]
) -> None:
    result = run(*files, *given)
    assert result.exit_code == 0, result.output
    assert sorted(map(str, calls[0]["hold_out"])) == sorted(given[1::2])
    assert "Means over the held-out sections s1, s2:" in result.stdout
    assert "Written" not in result.stdout


def test_a_name_made_of_digits_is_a_name(calls: list[dict[str, Any]], files: list[str], tmp_path: Path) -> None:
    joined = ad.concat({str(i + 1): ad.read_h5ad(file) for i, file in enumerate(files)}, label="slice")
    joined.obs_names_make_unique()
    joined.write_h5ad(tmp_path / "all.h5ad")
    depths = [argument for z in (0, 10, 30, 40) for argument in ("--z", str(z))]
    result = run(str(tmp_path / "all.h5ad"), "--section-key", "slice", *depths, "--hold-out", "3", "--log1p")
    assert result.exit_code == 0, result.output
    assert calls[0]["hold_out"] == ["3"]
    assert calls[0]["stack_kws"]["z"] == [0, 10, 30, 40]
    assert "Means over the held-out sections 3:" in result.stdout
    np.testing.assert_allclose(calls[0]["adatas"]["3"].X.toarray(), np.log1p(ad.read_h5ad(files[2]).X.toarray()))


def test_wrong_input_is_one_line_and_no_traceback(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isost.tl._evaluate.fit", lambda *args, **kwargs: pytest.fail("a model was fitted"))
    for args, said in [
        ([*files, "-o", "scores.xlsx"], "scores.xlsx must end in .csv"),
        ([*files, "--hold-out", "0"], "section 's0' is the first in z order"),
        ([*files, "--hold-out", "-1"], "section number -1"),
        ([*files, "--hold-out", "liver"], "section 'liver' that is not there"),
        (files[:2], "at least three sections"),
        ([*files, "--layer", "raw"], "no layer 'raw'"),
    ]:
        result = run(*args)
        assert result.exit_code == 1, args
        assert result.stderr.startswith("isost: ")
        assert result.stderr.count("\n") == 1
        assert said in result.stderr


def test_help_gives_examples() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "    isost evaluate s1.h5ad s2.h5ad s3.h5ad s4.h5ad -o scores.csv" in result.stdout
