from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import isost
from isost.cli import app, main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

mpl.use("Agg")
pytestmark = pytest.mark.usefixtures("settings_as_they_were")


class FakeModel:
    def save(self, folder: Path) -> None:
        folder.mkdir()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What training and reconstruction were asked for; they themselves are replaced by something instant."""
    calls: dict[str, Any] = {}

    def fit(stack: ad.AnnData, **kwargs: Any) -> FakeModel:
        calls["stack"], calls["fit"] = stack, kwargs
        return FakeModel()

    def reconstruct(stack: ad.AnnData, **kwargs: Any) -> ad.AnnData:
        calls["reconstruct"] = kwargs
        genes = kwargs.get("genes") or list(stack.var_names)
        index = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
        shown = np.random.default_rng(0).uniform(size=(len(index), len(genes))).astype(np.float32)
        names = [f"voxel{i}" for i in range(len(index))]
        volume = ad.AnnData(shown, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=genes))
        volume.obs["density"], volume.obsm["voxel"] = 1.0, index
        volume.uns["isost"] = {"grid": {"origin": np.zeros(3), "voxel_size": 20.0, "shape": np.array([4, 4, 4])}}
        return volume

    def section(stack: ad.AnnData, *, z: float, **kwargs: Any) -> ad.AnnData:
        calls["section"] = {"z": z, **kwargs}
        cells = stack[:10].copy()
        cells.obsm["spatial"][:, 2] = z
        return cells

    for fake in (fit, reconstruct, section):
        monkeypatch.setattr(isost.tl, fake.__name__, fake, raising=False)
    return calls


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three sections in files of their own, at depths 0, 60 and 120 in obs["z"]."""
    paths = []
    for i, section in enumerate(isost.datasets.organ(n_sections=3, cells_per_section=60, n_genes=20)):
        paths.append(str(tmp_path / f"s{i}.h5ad"))
        section.write_h5ad(paths[-1])
    return paths


def run(*args: str) -> Result:
    return CliRunner().invoke(app, args)


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, f"isost {isost.__version__}")


def test_main_is_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["isost", "--version"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0


@pytest.mark.parametrize("args", [("--help",), ("demo", "--help"), ("reconstruct", "--help")])
def test_help_names_commands_and_gives_examples(args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 0
    if args == ("--help",):
        assert "isost demo" in result.stdout
    if args[0] == "reconstruct":
        assert "    isost reconstruct s1.h5ad s2.h5ad s3.h5ad --voxel-size 20 -o volume.zarr" in result.stdout


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_reconstruct_passes_on_what_it_is_told(
    calls: dict[str, Any], files: list[str], tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"volume{suffix}"
    genes = list(ad.read_h5ad(files[0]).var_names[:2])
    result = run(
        "reconstruct", *files, "-o", str(out), "--voxel-size", "15", "--gene", genes[0], "--gene", genes[1],
        "--seed", "3", "--device", "cpu", "--devices", "2", "--model-out", str(tmp_path / "model"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert calls["fit"] == {"seed": 3, "device": "cpu", "devices": 2}
    assert calls["reconstruct"]["devices"] == 2
    assert calls["reconstruct"]["voxel_size"] == 15
    assert calls["reconstruct"]["genes"] == genes
    assert list(calls["stack"].obs["section"].cat.categories) == ["s0", "s1", "s2"]
    assert list(isost.io.read(out).var_names) == genes
    assert (tmp_path / "model").is_dir()
    for said in ("64 voxels of edge 20, 2 genes", str(out), str(tmp_path / "model")):
        assert said in result.stdout


def test_what_exceeds_memory_stays_in_files(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = isost.tl.fit
    quick: dict[str, Any] = {"epochs": 1, "hidden_dim": 8, "n_cells": 20, "adaptive": False, "expression_shift": 0.0}
    monkeypatch.setattr(isost.tl, "fit", lambda stack, **kws: fit(stack, **kws, **quick))
    out = tmp_path / "volume.zarr"
    args = ("reconstruct", *files, "--lazy", "--log1p", "--voxel-size", "60")
    result = run(*args, "-o", str(out))
    assert result.exit_code == 0, result.output
    volume = isost.io.read_volume(out)
    assert f"{volume.n_obs} voxels of edge 60, 20 genes" in result.stdout
    assert run("reconstruct", *files, "--log1p", "--voxel-size", "60", "-o", str(tmp_path / "v.h5ad")).exit_code == 0
    np.testing.assert_allclose(volume.X.compute(), isost.io.read(tmp_path / "v.h5ad").X, atol=1e-5)
    assert "volume.h5ad must end in .zarr with --lazy" in run(*args, "-o", "volume.h5ad").stderr


def test_depths_from_the_command_line(calls: dict[str, Any], files: list[str], tmp_path: Path) -> None:
    result = run("reconstruct", *files, "-o", str(tmp_path / "v.h5ad"), "--z", "-5", "--z", "50", "--z", "75.5")
    assert result.exit_code == 0, result.output
    assert np.unique(calls["stack"].obsm["spatial"][:, 2]).tolist() == [-5, 50, 75.5]
    assert calls["reconstruct"]["genes"] is None


def test_one_file_with_all_sections(calls: dict[str, Any], files: list[str], tmp_path: Path) -> None:
    joined = ad.concat(
        {f"slice{i}": ad.read_h5ad(file) for i, file in enumerate(files)}, label="slice", index_unique="-"
    )
    joined.write_h5ad(tmp_path / "all.h5ad")
    result = run("reconstruct", str(tmp_path / "all.h5ad"), "--section-key", "slice", "-o", str(tmp_path / "v.h5ad"))
    assert result.exit_code == 0, result.output
    assert list(calls["stack"].obs["slice"].cat.categories) == ["slice0", "slice1", "slice2"]


def test_log1p_only_when_asked(calls: dict[str, Any], files: list[str], tmp_path: Path) -> None:
    given = np.concatenate([ad.read_h5ad(file).X.toarray() for file in files])
    out = ["-o", str(tmp_path / "v.h5ad")]

    def expression() -> np.ndarray:
        X = calls["stack"].X
        return np.asarray(X.toarray() if hasattr(X, "toarray") else X)

    assert run("reconstruct", *files, *out).exit_code == 0
    np.testing.assert_allclose(expression(), given)
    assert run("reconstruct", *files, *out, "--log1p").exit_code == 0
    np.testing.assert_allclose(expression(), np.log1p(given), rtol=1e-6)


def test_wrong_input_is_one_line_and_no_traceback(calls: dict[str, Any], files: list[str], tmp_path: Path) -> None:
    out = ["-o", str(tmp_path / "v.h5ad")]
    for args, said in [
        (["nowhere.h5ad", "nor_here.h5ad", *out], "nowhere.h5ad"),
        ([*files, "-o", "volume.csv"], "volume.csv must end in .h5ad or .zarr"),
        ([*files, *out, "--z", "1", "--z", "2"], "z"),
        ([*files, *out, "--layer", "missing", "--log1p"], "section 's0' has no layer 'missing'; there are ['counts']"),
        ([*files, *out, "--spatial-key", "xy"], "xy"),
        ([files[0], "--section-key", "slice", *out], "slice"),
        ([*files, *out, "--gene", "Foo"], "genes ['Foo'] are not in all sections"),
    ]:
        result = run("reconstruct", *args)
        assert result.exit_code == 1, args
        assert result.stderr.startswith("isost: ")
        assert result.stderr.count("\n") == 1
        assert said in result.stderr
    assert not calls


def test_debug_shows_where_an_error_came_from(files: list[str]) -> None:
    result = run("reconstruct", *files, "-o", "volume.csv", "--debug")
    assert isinstance(result.exception, ValueError)


def test_a_bug_keeps_its_traceback(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(isost.pp, "slice_stack", broken)
    assert isinstance(run("reconstruct", *files, "-o", str(tmp_path / "v.h5ad")).exception, RuntimeError)


def test_demo_writes_the_volume_and_its_pictures(calls: dict[str, Any], tmp_path: Path) -> None:
    result = run("demo", "--out", str(tmp_path / "demo"), "--seed", "2")
    assert result.exit_code == 0, result.output
    assert calls["fit"]["seed"] == 2
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert made == {"volume.h5ad", "volume.png", "slices.png", "volume.html"}
    assert all(name in result.stdout for name in made)
    assert all(f"{stage:<10}" in result.stdout for stage in ("sections", "model", "volume", "pictures"))
    assert (tmp_path / "demo" / "volume.html").stat().st_size < 15e6


def test_verbose_logs(calls: dict[str, Any], files: list[str], tmp_path: Path) -> None:
    result = run("reconstruct", *files, "-o", str(tmp_path / "v.h5ad"), "--verbose")
    assert result.exit_code == 0
    assert calls
    assert isost.settings.verbosity == "INFO"


def test_check_says_what_it_finds_and_fails_on_errors_alone(files: list[str], tmp_path: Path) -> None:
    assert run("check", *files).output == "nothing found\n"
    odd = run("check", *files, "--z", "0", "--z", "60000", "--z", "120000")
    assert odd.exit_code == 0
    assert "warning (units): the median gap in z is 60000" in odd.output
    assert odd.output.endswith("1 warning\n")
    lost = run("check", *files, "--spatial-key", "nowhere")
    assert lost.exit_code == 1
    assert "error (input): section 's0' has no obsm['nowhere']; pass spatial_key=" in lost.output
    assert lost.output.endswith("3 errors\n")
    missing = run("check", str(tmp_path / "missing.h5ad"))
    assert missing.exit_code == 1
    assert "there is no" in missing.output
