"""What a release says of itself is the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import isost

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_and_one_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    entry = yaml.safe_load((ROOT / ".github" / "scverse" / "meta.yaml").read_text())
    assert {PROJECT["version"], citation["version"], entry["version"]} == {isost.__version__}
    assert {PROJECT["license"], citation["license"], entry["license"]} == {"MIT"}
    assert entry["publications"] == [citation["references"][0]["doi"]]


def test_the_ecosystem_entry_has_what_its_schema_asks_for() -> None:
    entry = yaml.safe_load((ROOT / ".github" / "scverse" / "meta.yaml").read_text())
    texts = ("name", "description", "project_home", "documentation_home", "version", "test_command")
    assert all(isinstance(entry[key], str) and entry[key] for key in texts)
    assert (entry["name"], entry["category"], entry["install"]) == ("isost", "ecosystem", {"pypi": PROJECT["name"]})
    for key in ("tags", "contact"):
        assert len(set(entry[key])) == len(entry[key]) > 0
    assert all(re.fullmatch(r"10\.\d{4,9}/[-._;()/:A-Za-z0-9]+", doi) for doi in entry["publications"])


def test_every_python_that_is_promised_is_tested() -> None:
    promised = {name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", name)}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) == promised
    assert PROJECT["requires-python"] == f">={min(promised, key=lambda version: int(version[2:]))}"


def test_what_a_test_needs_is_skipped_or_required(
    skip_unless: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless(True, "nothing is missing", required_by="ISOST_REQUIRE_BROWSER")
    monkeypatch.setenv("ISOST_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="ISOST_REQUIRE_BROWSER=1, but there is no browser"):
        skip_unless(False, "there is no browser", required_by="ISOST_REQUIRE_BROWSER")
    monkeypatch.delenv("ISOST_REQUIRE_BROWSER")
    with pytest.raises(pytest.skip.Exception, match="there is no browser"):
        skip_unless(False, "there is no browser", required_by="ISOST_REQUIRE_BROWSER")


def test_switches_of_the_tests_are_explained_and_set() -> None:
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    explained = (ROOT / "docs" / "contributing.md").read_text()
    assert all(f"`{switch}`" in explained for switch in set(re.findall(r'required_by="(\w+)"', source)))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow["env"]["ISOST_REQUIRE_BROWSER"] == "1"


def test_every_target_of_make_is_explained() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    explained = (ROOT / "docs" / "contributing.md").read_text()
    assert {target for target in targets if f"| `make {target}` |" not in explained} == {"help", "demo", "clean"}
