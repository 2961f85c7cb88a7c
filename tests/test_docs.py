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
from isost.tl import _fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("tutorials/*.md"))]
ROOMS = ("pp", "tl", "pl", "io", "datasets", "metrics", "compat")
organ = isost.datasets.organ


def blocks(page: Path, language: str) -> list[str]:
    """Code of one language, without the options of its cells."""
    found = re.findall(rf"^```{language}\n((?::.*\n)*)(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [code for _, code in found]


def pages_with(language: str) -> list[Any]:
    # the page on the published program has a test of its own
    pages = [page for page in PAGES if page.name != "published.md" and blocks(page, language)]
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


def small_organ(**kws: Any) -> list[AnnData]:
    smaller = {"n_sections": min(kws.get("n_sections", 4), 4), "cells_per_section": 100, "n_genes": 30}
    return organ(**kws | smaller)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The examples' organ, smaller and briefly trained on; they write to a folder of their own and open no window."""
    mpl.use("Agg")
    monkeypatch.setattr(isost.datasets, "organ", small_organ)
    monkeypatch.setattr(_fit, "_BRIDGE_STEPS", 20)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.setattr(isost.settings, "progress", False)
    monkeypatch.setenv("ISOST_CACHE_DIR", str(tmp_path / "nothing is here"))
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
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), space)


@pytest.mark.usefixtures("quick", "settings_as_they_were")
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


@pytest.mark.parametrize("page", pages_with("sh"))
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = [*blocks(page, "sh"), *re.findall("`([^`]+)`", page.read_text())]
    for target in re.findall(r"\bmake (\w+)", "\n".join(named)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_its_entry(room: str) -> None:
    entries = re.findall(rf"^   {room}\.(\w+)$", (ROOT / "docs" / "api" / f"{room}.md").read_text(), flags=re.MULTILINE)
    assert sorted(entries) == sorted(getattr(isost, room).__all__)
