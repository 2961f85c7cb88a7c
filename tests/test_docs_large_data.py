"""Every block of Python on the page on large data is run, in order; its commands are lines that bash can read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import isost
from isost.tl import _fit_objectives, _launch

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parents[1] / "docs" / "large_data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_block_of_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are not started here: the calls that would do so are made in this one."""
    asked = []

    def made_here(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        asked.append(kwargs["devices"])
        return function(*args, **kwargs | {"devices": 1})

    organ = isost.datasets.organ(n_sections=3, cells_per_section=100, n_genes=30)
    (tmp_path / "sections").mkdir()
    for number, section in enumerate(organ):
        section.write_h5ad(tmp_path / "sections" / f"{number}.h5ad")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(isost.settings, "progress", False)
    monkeypatch.setattr(_fit_objectives, "_BRIDGE_STEPS", 20)
    monkeypatch.setattr(_launch, "_launched", made_here)
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("RANK", "0")
    space: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "large_data.md", "exec"), space)
    assert asked == [2, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"sections", "fit", "model", "volume.zarr"}
    assert space["gene"].shape == (space["volume"].n_obs, 1)
    assert space["layer"].X.shape == space["layer"].shape


@pytest.mark.parametrize("script", blocks("sh"))
def test_the_commands_can_be_read(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "organ.py" in script
