from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scanpy as sc
from matplotlib import pyplot as plt

from isost.pl._style import (
    drawn_on,
    extend,
    finished,
    is_dark,
    is_shown,
    point_spacing,
    round_length,
    with_unit,
)


@pytest.mark.parametrize(("longest", "length"), [(330, 200), (100, 100), (0.07, 0.05), (4.9, 2), (5.0, 5)])
def test_round_length(longest: float, length: float) -> None:
    assert round_length(longest) == pytest.approx(length)


def test_spacing_of_a_grid_is_its_constant() -> None:
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(16.0)), -1).reshape(-1, 2) * 7
    assert point_spacing(grid) == pytest.approx(7)
    assert point_spacing(grid[:2]) == pytest.approx(7)
    assert point_spacing(grid[:1]) == 0


def test_units() -> None:
    assert with_unit("50", "µm") == "50 µm"
    assert with_unit("x", "µm", brackets=True) == "x (µm)"
    assert with_unit("50", None) == "50"


def test_arrows_of_the_colour_bar() -> None:
    values = np.array([0.0, 1, 2])
    found = [extend(values, *ends) for ends in ((0, 2), (0, 1), (1, 2), (0.5, 1))]
    assert found == ["neither", "max", "min", "both"]
    assert extend(np.full(2, np.nan), 0, 1) == "neither"
    assert extend(np.array([np.nan, 2]), 0, 1) == "max"


def test_a_background_changes_colours_alone_and_reaches_late_ticks() -> None:
    with plt.rc_context({"font.size": 7, "figure.facecolor": "red"}):
        with drawn_on("dark"):
            assert is_dark()
            figure, ax = plt.subplots()
            ax.set_xlim(0, 10)
            assert not finished(figure, show=False)
        with drawn_on("light"):
            assert not is_dark()
            assert plt.rcParams["font.size"] == 7
        with drawn_on(None):
            assert plt.rcParams["figure.facecolor"] == "red"
        assert {tick.label1.get_color() for tick in ax.xaxis.get_major_ticks()} == {"white"}


def test_show_follows_scanpy(monkeypatch: pytest.MonkeyPatch) -> None:
    for autoshow in (True, False):
        monkeypatch.setattr(sc, "settings", SimpleNamespace(autoshow=autoshow))
        assert is_shown(None) is autoshow
        assert is_shown(not autoshow) is not autoshow
