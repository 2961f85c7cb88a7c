from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import isost

if TYPE_CHECKING:
    from .conftest import Organ

TRAJECTORY = SimpleNamespace(objective="trajectory")


def test_the_loss_its_parts_and_the_phases(organ: Organ) -> None:
    ax = isost.pl.training(organ.model, show=False)
    losses = [line for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in losses] == ["loss", "shape", "expression"]
    np.testing.assert_array_equal(losses[0].get_ydata(), organ.model.history["loss"])
    assert np.isnan(losses[1].get_ydata()[10:20]).all()  # of no weight while expression is trained
    assert [text.get_text() for text in ax.texts] == ["shape", "expression", "joint"]


def test_a_bridge_says_what_a_still_drift_would_have(organ: Organ) -> None:
    bridge = SimpleNamespace(history=organ.model.history, settings=SimpleNamespace(objective="bridge"))
    ax = isost.pl.training(bridge, show=False)
    assert list(ax.lines[-1].get_ydata()) == [1, 1]
    assert ax.get_legend().get_texts()[-1].get_text() == "each part of\na still drift"


def test_a_dark_background(organ: Organ) -> None:
    ax = isost.pl.training(organ.model, background="dark", show=False)
    assert ax.get_facecolor() == (0, 0, 0, 1)
    assert ax.texts[0].get_color() == "white"
    assert isost.pl.evaluation(organ.scores, background="dark", show=False).get_facecolor() == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="background='blue' is unknown"):
        isost.pl.training(organ.model, background="blue")  # type: ignore[arg-type]


def test_a_part_that_is_the_whole_is_not_drawn_twice_and_wide_ranges_are_logarithmic() -> None:
    history = pd.DataFrame({"epoch": [1, 2, 3], "phase": "joint", "loss": [10.0, 1.0, 0.1]})
    history = history.assign(shape=history["loss"], expression=0.0)
    ax = isost.pl.training(SimpleNamespace(history=history, settings=TRAJECTORY), ax=plt.subplots()[1])
    assert [line.get_label() for line in ax.lines] == ["loss"]
    assert ax.get_yscale() == "log"


def test_a_model_without_history() -> None:
    with pytest.raises(ValueError, match="no history"):
        isost.pl.training(SimpleNamespace(history=pd.DataFrame()), show=False)


def test_one_epoch_without_loss_is_drawn() -> None:
    history = pd.DataFrame({"epoch": [1], "phase": "joint", "loss": [0.0]})
    assert isost.pl.training(SimpleNamespace(history=history, settings=TRAJECTORY), show=False).get_yscale() == "linear"
