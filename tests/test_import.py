from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import isost


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    code = "import isost, sys; print([m for m in ('torch', 'scanpy', 'anndata', 'matplotlib') if m in sys.modules])"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("room", ["compat", "datasets", "io", "metrics", "pl", "pp", "tl"])
def test_every_room_opens_and_has_what_it_names(room: str) -> None:
    names = getattr(isost, room).__all__
    assert all(hasattr(getattr(isost, room), name) for name in names)
    assert room in dir(isost)


def test_rooms_import_only_what_other_rooms_name() -> None:
    package = Path(isost.__file__).parent
    trespasses = []
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level or not (node.module or "").startswith("isost."):
                continue
            _, other, *inner = str(node.module).split(".")
            if inner and other != room:
                trespasses.append(f"{file.relative_to(package)} imports from {node.module}")
    assert trespasses == []


def test_the_plots_are_all_of_pl() -> None:
    plots = "animate cut evaluation gene_grid slices surface training uncertainty volume"
    assert isost.pl.__all__ == plots.split()


def test_the_model_and_the_settings_are_at_the_top() -> None:
    assert isost.IsoST.__name__ == "IsoST"
    assert isost.settings.progress in (True, False)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = isost.nothing
