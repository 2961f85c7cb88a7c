from __future__ import annotations

import subprocess
import sys
import time

import pytest

import isost


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    code = "import isost, sys; print([m for m in ('torch', 'scanpy', 'anndata', 'matplotlib') if m in sys.modules])"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("room", ["datasets", "io", "metrics", "pl", "pp", "tl"])
def test_every_room_opens_and_has_what_it_names(room: str) -> None:
    names = getattr(isost, room).__all__
    assert all(hasattr(getattr(isost, room), name) for name in names)
    assert room in dir(isost)


def test_the_two_plots_are_all_of_pl() -> None:
    assert isost.pl.__all__ == ["slices", "volume"]


def test_the_model_and_the_settings_are_at_the_top() -> None:
    assert isost.IsoST.__name__ == "IsoST"
    assert isost.settings.progress in (True, False)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = isost.nothing
