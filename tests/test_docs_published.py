"""Every block of code on the page for those who come from the published program is run, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pandas as pd
import pytest
import yaml
from matplotlib import pyplot as plt
from typer.testing import CliRunner

import isost
from isost.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[1] / "docs" / "published.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the page says is there: sections, a config and a table of means; the working directory."""
    mpl.use("Agg")
    organ = isost.datasets.organ(n_sections=3, cells_per_section=60, n_genes=20)
    stack = isost.pp.slice_stack(organ, n_comps=4)
    isost.compat.write_stack(stack, tmp_path / "data", subsets=[2])
    params = {"gene_dim": 4, "hidden_dim": 8, "delta_d": 0.05, "stride": 1, "std_x": 0.01, "std_y": 0.01}
    config = {"trainer": "IsoST", "params": params | {"std_z": 0.1, "std_seq": 0.1, "weight_decay": "1e-8"}}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    table = pd.DataFrame({"gene_symbol": stack.var_names, "mean": 0.5, "sd": 2.0})
    table.to_csv(tmp_path / "mean_sd.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(isost.settings, "progress", False)
    yield tmp_path
    plt.close("all")


@pytest.mark.usefixtures("settings_as_they_were")
def test_every_block_runs(folder: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert {language for language, _ in blocks} == {"python", "sh"}
    space: dict[str, object] = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "published.md", "exec"), space)
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == "isost"
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, f"{line}\n{result.output}"
    assert (folder / "shell" / "result" / "log2_expr_20_all_pc_unscaled.parquet").is_file()
    assert (folder / "fitted" / "model.pt").is_file()
    assert space["z_scale"] is not None


def test_the_page_names_what_there_is() -> None:
    """Every name of isost on the page exists, and the page names every function."""
    for room, name in re.findall(r"isost\.(compat|tl|pl|pp)\.(\w+)", PAGE):
        assert hasattr(getattr(isost, room), name), f"isost.{room}.{name}"
    functions = set(isost.compat.__all__) - {"Config", "LinearPCA", "build_volume", "read_mean_sd"}
    assert {name for name in functions if name not in PAGE} == set()
