from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import isost

if TYPE_CHECKING:
    from .conftest import Organ


def test_a_panel_for_each_metric_with_every_method(organ: Organ) -> None:
    figure = isost.pl.evaluation(organ.scores, ncols=2, show=False)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["r_cell", "r_voxel", "energy", "var_ratio"]
    first, _, energy, ratio = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["isost", "copy", "self"]
    sections, means = (dots.get_offsets() for dots in first.collections)
    np.testing.assert_allclose(means, [[0.5, 0], [0.4, 1], [0.6, 2]])
    np.testing.assert_allclose(sorted(sections[:, 0]), [0.35, 0.45, 0.45, 0.55, 0.55, 0.65])
    says = [[text.get_text() for text in ax.texts] for ax in (first, energy, ratio)]
    assert [texts[1] for texts in says] == ["better than copy by 0.1"] * 3
    assert [texts[0] for texts in says] == ["higher is better", "lower is better", "1 is best"]


def test_chosen_metrics(organ: Organ) -> None:
    figure = isost.pl.evaluation(organ.scores, metrics=["energy"], show=False)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["energy"]
    assert len(isost.pl.evaluation(organ.scores, metrics="energy", show=False).axes) == 1
    with pytest.raises(KeyError, match=r"metrics=\['f1'\] are not in the table"):
        isost.pl.evaluation(organ.scores, metrics=["f1"], show=False)
    with pytest.raises(TypeError, match="no table of isost"):
        isost.pl.evaluation(organ.scores.reset_index(), show=False)
