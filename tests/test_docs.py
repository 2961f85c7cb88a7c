"""Every block of code in the README, the documentation and the tutorials is run; every public name has its entry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest
import typer
from matplotlib import pyplot as plt

import isost
from isost.cli import app
from isost.tl import _fit_objectives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/tutorials/*.md"))]
TESTED_ELSEWHERE = ("docs/published.md", "docs/large_data.md")
ROOMS = ("pp", "tl", "pl", "io", "datasets", "metrics", "compat")
organ = isost.datasets.organ


def blocks(page: Path, language: str) -> list[str]:
    """Code of one language, without the options of its cells."""
    found = re.findall(rf"^```{language}\n((?::[^\n]*\n)*)(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [code for _, code in found]


def pages_with(language: str) -> list[Any]:
    names = {page.relative_to(ROOT).as_posix(): page for page in PAGES if blocks(page, language)}
    return [pytest.param(page, id=name) for name, page in names.items() if name not in TESTED_ELSEWHERE]


def small_organ(**kws: Any) -> list[AnnData]:
    smaller = {"n_sections": min(kws.get("n_sections", 4), 4), "cells_per_section": 80, "n_genes": 30}
    return organ(**kws | smaller)


def no_network(**_: Any) -> None:
    raise ConnectionError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The examples' organ, smaller and briefly trained on; they write to a folder of their own and open no window."""
    mpl.use("Agg")
    monkeypatch.setattr(isost.datasets, "organ", small_organ)
    monkeypatch.setattr(_fit_objectives, "_BRIDGE_STEPS", 2)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.setattr(isost.settings, "progress", False)
    monkeypatch.setattr(isost.datasets, "merfish_poa", no_network)
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    """What pages of the documentation take for granted, as it is made in the five-minute start."""
    adatas = small_organ()
    stack = isost.pp.slice_stack(adatas)
    model = isost.tl.fit(stack, epochs=10, n_cells=30, expression_shift=0.5, progress=False)
    return {
        "isost": isost,
        "adatas": adatas,
        "stack": stack,
        "model": model,
        "volume": isost.tl.reconstruct(stack, model=model, voxel_size=40.0),
    }


@pytest.mark.usefixtures("quick", "settings_as_they_were")
@pytest.mark.parametrize("page", pages_with("python"))
def test_examples_run(page: Path, usual: dict[str, Any]) -> None:
    space = dict(usual)
    isost.io.write(usual["volume"], "volume.zarr")
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), space)


@pytest.mark.usefixtures("quick", "settings_as_they_were")
# what squidpy does to others
@pytest.mark.filterwarnings("ignore:.*is not a valid key:SyntaxWarning")
@pytest.mark.filterwarnings("ignore:The set_bad function:PendingDeprecationWarning")
@pytest.mark.parametrize("page", pages_with(r"\{code-cell\}"))
def test_notebooks_run(page: Path) -> None:
    space: dict[str, Any] = {"display": lambda *_, **__: None}
    for code in blocks(page, r"\{code-cell\}"):
        exec(compile(code, page.name, "exec"), space)


@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands_exist_with_their_options(page: Path) -> None:
    known: Any = typer.main.get_command(app)
    lines = [line.split("#")[0].split() for code in blocks(page, "sh") for line in code.splitlines()]
    for command, *rest in (words[1:] for words in lines if words[:1] == ["isost"]):
        own = [known, known.commands[command]] if command in known.commands else [known]
        options = {name for part in own for option in part.params for name in option.opts} | {"--help"}
        assert {word for word in (command, *rest) if word.startswith("-")} <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^(?:.*`)?make ([\w-]+)", page.read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_its_entry(room: str) -> None:
    entries = re.findall(rf"^   {room}\.(\w+)$", (ROOT / "docs" / "api" / f"{room}.md").read_text(), flags=re.MULTILINE)
    assert sorted(entries) == sorted(getattr(isost, room).__all__)


def test_fields_are_those_of_results(usual: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    volume, section = page.split("## A volume")[1].split("## A generated section")
    made = isost.tl.section(usual["stack"], model=usual["model"], z=75.0)
    for text, result in ((volume, usual["volume"]), (section.split("## Scores")[0], made)):
        for where, key in re.findall(r"^\| .*?`(\w+)\[\"(\w+)\"\]`", text, flags=re.MULTILINE):
            assert key in getattr(result, where), f"{where}[{key!r}]"
    assert {"origin", "voxel_size", "shape"} <= set(usual["volume"].uns["isost"]["grid"])


def test_scores_in_the_readme_are_those_of_the_page_on_fidelity() -> None:
    fidelity = (ROOT / "docs" / "fidelity.md").read_text()
    rows = re.findall(r"^\| [^|]+ (\| \S*\.\d.*) \|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(rows) == 6
    for scores in rows:
        assert scores in fidelity
