"""What a release says of itself is the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import isost

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
