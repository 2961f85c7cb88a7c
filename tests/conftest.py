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
    from collections.abc import Callable, Iterator
    from types import ModuleType

torch.set_num_threads(1)

# Random input: the same cases every time, or by HYPOTHESIS_PROFILE=long many more, others every time.
hypothesis.settings.register_profile("quick", max_examples=100, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("long", max_examples=2500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def skip_unless() -> Callable[..., None]:
    """What a test needs and not every machine has: without it the test is skipped, or fails where that is required."""

    def check(is_there: bool, missing: str, *, required_by: str) -> None:
        if is_there:
            return
        if os.environ.get(required_by) == "1":
            pytest.fail(f"{required_by}=1, but {missing}")
        pytest.skip(missing)

    return check


@pytest.fixture(scope="session")
def data_dir(skip_unless: Callable[..., None]) -> Path:
    """Folder of the real measured sections."""
    folder = Path(os.environ.get("ISOST_TEST_DATA", SHARED_DATA))
    missing = f"there are no measured sections at {folder}; set ISOST_TEST_DATA to run this test"
    skip_unless(folder.is_dir(), missing, required_by="ISOST_REQUIRE_DATA")
    return folder


@pytest.fixture(scope="session")
def fidelity(data_dir: Path, skip_unless: Callable[..., None]) -> ModuleType:
    """The program that defines the scores."""
    path = data_dir.parent / "checks" / "fidelity.py"
    skip_unless(path.is_file(), f"there are no definitions of the scores at {path}", required_by="ISOST_REQUIRE_DATA")
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
