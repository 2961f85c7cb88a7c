from __future__ import annotations

import numpy as np
import pytest

from isost.metrics import Section


def test_keeps_the_plane_and_defaults_to_measured_expression():
    section = Section(np.arange(12).reshape(4, 3), np.ones((4, 5), dtype=np.float32), z=7.0)
    assert section.positions.tolist() == [[0, 1], [3, 4], [6, 7], [9, 10]]
    assert section.mean is section.expression
    assert section.expression.dtype == np.float64
    assert (section.n_cells, section.n_genes, section.z) == (4, 5, 7.0)


@pytest.mark.parametrize(
    ("positions", "expression", "mean", "message"),
    [
        (np.ones((4, 1)), np.ones((4, 2)), None, "positions must be"),
        (np.ones((4, 2)), np.ones(4), None, "positions must be"),
        (np.ones((4, 2)), np.ones((3, 2)), None, "same cells and genes"),
        (np.ones((4, 2)), np.ones((4, 2)), np.ones((4, 3)), "same cells and genes"),
        (np.ones((1, 2)), np.ones((1, 2)), None, "at least two cells"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), None, "positions of a section must be finite"),
        (np.ones((4, 2)), np.ones((4, 2)), np.full((4, 2), np.inf), "mean of a section must be finite"),
    ],
)
def test_bad_arrays_are_refused(positions, expression, mean, message):
    with pytest.raises(ValueError, match=message):
        Section(positions, expression, mean)
