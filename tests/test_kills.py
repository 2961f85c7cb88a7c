from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_work_that_is_killed_ends_as_if_it_had_not_been() -> None:
    program = Path(__file__).parents[1] / "benchmarks" / "faults.py"
    said = subprocess.run([sys.executable, "-W", "ignore", program, "--kills", "3"], capture_output=True, check=True)
    assert said.stdout.count(b"bit-equal to an unbroken run") == 4
