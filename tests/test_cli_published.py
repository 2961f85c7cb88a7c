from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.decomposition import PCA
from typer.testing import CliRunner

import isost
from isost.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.usefixtures("settings_as_they_were")

TRAIN = ["train", "run", "data", "--config", "config.yml", "--epoch", "2", "--checkpoint-every", "1"]
INFER = ["infer", "run", "data", "result", "--step", "0.05"]
VOLUME = ["volume", "data", "result", "--size", "1", "1", "0.5", "--max-lence", "8"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small sections and a config, and that folder as the working directory."""
    organ = isost.datasets.organ(n_sections=3, cells_per_section=40, n_genes=20)
    isost.compat.write_stack(isost.pp.slice_stack(organ, n_comps=3), tmp_path / "data")
    params = {"gene_dim": 3, "hidden_dim": 8, "delta_d": 0.1, "std_z": 0, "stride": 1, "lr": 1e-3}
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"trainer": "IsoST", "params": params}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def isost_(*words: str, fails: bool = False) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == fails, result.output
    return result


def test_the_three_commands_make_and_list_all_outputs(folder: Path) -> None:
    said = isost_(*TRAIN).output
    assert "there    run/config.yml" in said
    assert "2 checkpoints" in said
    assert "5 frames" in isost_(*INFER).output  # two gaps of 0.1
    said = isost_(*VOLUME).output
    assert "missing" not in said
    for name in ("config.yml", "model.pt", "checkpoint_*.pt", "*_forward.npy", "volume.npy", "density.npy"):
        assert name in said
    assert "(8, 8, 4, 3) float64" in said
    assert "log2_expr_8_all_pc.parquet" in said
    # voxels are cubes: the depth of the data in units of its width
    stack = isost.compat.read_stack(folder / "data", isost.compat.slide_names(folder / "data"))
    depth = np.ptp(stack.obsm["spatial"][:, 2]) / stack.uns["isost"]["normalization"]["scale"][0]
    assert pd.read_csv(folder / "result" / "pc_volume.csv")["z"].max() == np.floor(depth * 8)


def test_what_is_there_is_kept_unless_it_is_the_same(folder: Path) -> None:
    for command in (TRAIN, INFER, VOLUME):
        isost_(*command)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert "resume" in isost_(*command, fails=True).output
        isost_(*command, "--resume")
        for path, content in before.items():
            assert path.read_bytes() == content, path
    assert "another training" in isost_(*TRAIN, "--resume", "--seed", "1", fails=True).output
    assert "another inference" in isost_(*INFER, "--resume", "--seed", "1", fails=True).output
    assert "another volume" in isost_(*VOLUME, "--resume", "--swamp", fails=True).output


def test_a_volume_that_was_stopped_goes_on(folder: Path) -> None:
    for command in (TRAIN, INFER, VOLUME):
        isost_(*command)
    table = folder / "result" / "log2_expr_8_all_pc.parquet"
    before = pd.read_parquet(table)
    table.unlink()
    isost_(*VOLUME, "--resume")
    pd.testing.assert_frame_equal(pd.read_parquet(table), before)


def test_groups_and_slides(folder: Path) -> None:
    first, second, third = isost.compat.slide_names(folder / "data")
    isost_(*TRAIN, "--group", f"{first},{second}", "--group", f"{second},{third}")
    train = [word if word != "run" else "other" for word in TRAIN]
    isost_(*train, "--slide", first, "--slide", third)
    assert "exclude each other" in isost_(*TRAIN, "--slide", first, "--group", first, fails=True).output


def test_a_time_volume(folder: Path) -> None:
    for command in (TRAIN, INFER):
        isost_(*command)
    isost_("volume", "data", "result", "--size", "1", "1", "5", "--max-lence", "8", "--time")
    assert np.load(folder / "result" / "volume.npy").shape == (8, 8, 5, 3)


def test_a_pickled_pca_and_its_z_score(folder: Path) -> None:
    for command in (TRAIN, INFER):
        isost_(*command)
    genes = [f"gene{i}" for i in range(4)]
    joblib.dump(PCA(3).fit(np.random.default_rng(0).normal(size=(20, 4))), folder / "pca.pkl")
    pd.DataFrame({"gene_symbol": genes}).to_csv(folder / "gene.csv")
    mean_sd = pd.DataFrame({"gene_symbol": genes, "mean": [1.0, 2, 3, 4], "sd": [0.5, 1, 2, 3]})
    mean_sd.to_csv(folder / "mean_sd.csv", index=False)
    options = ["--pca", "pca.pkl", "--genes", "gene.csv", "--unscale", "mean_sd.csv"]
    assert "is a pickle" in isost_(*VOLUME, *options, fails=True).output
    assert not (folder / "result" / "volume.npy").exists()
    said = isost_(*VOLUME, *options, "--trusted").output
    assert "log2_expr_8_all_pc_unscaled.parquet" in said
    scores = pd.read_parquet(folder / "result" / "log2_expr_8_all_pc.parquet")
    raw = pd.read_parquet(folder / "result" / "log2_expr_8_all_pc_unscaled.parquet")
    expected = scores[genes] * mean_sd["sd"].to_numpy() + mean_sd["mean"].to_numpy()
    np.testing.assert_allclose(raw[genes], expected, rtol=1e-5, atol=1e-5)


def test_without_a_pca_there_is_no_expression(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for command in (TRAIN, INFER):
        isost_(*command)
    (folder / "data" / "pca.npz").unlink()
    assert "missing  result/log2_expr_*_all_pc.parquet" in isost_(*VOLUME).output
    assert "no PCA was given" in caplog.text
    assert "pass pca=" in isost_(*VOLUME, "--unscale", "mean_sd.csv", fails=True).output


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([*TRAIN[:4], "none.yml"], "there is no config none.yml"),
        ([*TRAIN, "--slide", "a", "--slide", "b"], "section 'a' has no file"),
        ([*TRAIN, "--mode", "all"], "mode is 'all'"),
        (INFER, "there is no file run/model.pt"),
        (VOLUME, "result holds no frames"),
        (["train", "run", "nowhere", "--config", "config.yml"], "nowhere holds no sections"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder: Path, command: list[str], words: str) -> None:
    result = isost_(*command, fails=True)
    assert words in result.output
    assert "Traceback" not in result.output
    assert not (folder / "run").exists()


def test_an_output_that_was_not_made_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    monkeypatch.setattr(isost.compat, "biaxial_multi_group_train", nothing)
    assert "run/model.pt was not made" in isost_(*TRAIN, fails=True).output
    assert not (folder / "run").exists()
