from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

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
