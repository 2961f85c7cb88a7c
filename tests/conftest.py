from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

import isost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

torch.set_num_threads(1)

# Random input: the same cases every time, or by HYPOTHESIS_PROFILE=long many more, others every time.
hypothesis.settings.register_profile("quick", max_examples=100, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("long", max_examples=2500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real measured sections; the test is skipped where there is none."""
    folder = Path(os.environ.get("ISOST_TEST_DATA", SHARED_DATA))
    if not folder.is_dir():
        if os.environ.get("ISOST_REQUIRE_DATA") == "1":
            pytest.fail(f"ISOST_REQUIRE_DATA=1, but there is no folder {folder}")
        pytest.skip(f"no measured sections at {folder}; set ISOST_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def fidelity(data_dir: Path) -> ModuleType:
    """The program that defines the scores; the test is skipped where it is not beside the data."""
    path = data_dir.parent / "checks" / "fidelity.py"
    if not path.is_file():
        if os.environ.get("ISOST_REQUIRE_DATA") == "1":
            pytest.fail(f"ISOST_REQUIRE_DATA=1, but there is no {path}")
        pytest.skip(f"no definitions of the scores at {path}")
    spec = importlib.util.spec_from_file_location("fidelity", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings_as_they_were() -> Iterator[None]:
    """What a command changes for its whole process holds for one test alone."""
    logger = logging.getLogger("isost")
    before = (isost.settings.progress, logger.level, list(logger.handlers))
    yield
    for handler in set(logger.handlers) - set(before[2]):
        handler.close()
    isost.settings.progress, logger.level, logger.handlers = before
