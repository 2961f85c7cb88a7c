from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

import isost
from isost.cli import app
from isost.tl import _fit

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def small_organ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The example's organ, smaller and briefly trained on; it writes to a folder of its own and opens no window."""
    mpl.use("Agg")
    organ = partial(isost.datasets.organ, n_sections=3, cells_per_section=100, n_genes=30)
    monkeypatch.setattr(isost.datasets, "organ", organ)
    monkeypatch.setattr(_fit, "_BRIDGE_STEPS", 20)
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


@pytest.mark.usefixtures("small_organ")
def test_the_example_runs_and_makes_what_the_tables_say(tmp_path: Path) -> None:
    (example,) = blocks("python")
    space: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), space)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"model", "volume.h5ad", "volume.html", "volume.ome.tif"}
    volume, section = space["volume"], space["section"]
    for where, key in re.findall(
        r"`(\w+)\[\"(\w+)\"\]", README.split("## What comes out")[1].split("## Command line")[0]
    ):
        source = section if where == "layers" else volume
        assert key in getattr(source, where), f"{where}[{key!r}]"
    assert {"origin", "voxel_size", "shape"} <= set(isost.io.read("volume.h5ad").uns["isost"]["grid"])


def test_the_commands_exist_with_their_options() -> None:
    import typer

    known = typer.main.get_command(app)
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    used = [words for words in lines if words and words[0] == "isost"]
    assert used
    for _, command, *rest in used:
        options = {name for option in known.commands[command].params for name in option.opts} | {"--help"}
        assert {word for word in rest if word.startswith("-")} <= options


def test_the_make_targets_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+)", "\n".join([*blocks("sh"), *re.findall("`([^`]+)`", README)]))):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
