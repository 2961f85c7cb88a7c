from __future__ import annotations

import numpy as np
import pytest

from isost.datasets._shape import CAVITY, OUTLINE, Shape
from isost.datasets._tissue import CELL_TYPES, COLORS, cell_type_probabilities, density

SHAPE = Shape(radius=250.0, depth=360.0)
SCALE = np.array([250.0, 250.0, 360.0])


@pytest.fixture
def tissue() -> np.ndarray:
    xyz = np.random.default_rng(0).uniform([-300, -300, 0], [400, 300, 360], (20_000, 3))
    return xyz[SHAPE.inside(xyz)]


def test_every_type_has_a_colour():
    assert len(COLORS) == len(set(COLORS)) == len(CELL_TYPES)


def test_probabilities_sum_to_one_everywhere():
    xyz = np.random.default_rng(1).uniform(-900, 900, (5_000, 3))
    chances = cell_type_probabilities(SHAPE, xyz)
    assert chances.shape == (5_000, len(CELL_TYPES))
    assert chances.min() >= 0
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)


def test_every_type_occurs_and_the_scattered_one_everywhere(tissue):
    chances = cell_type_probabilities(SHAPE, tissue)
    assert (chances[:, :-1].max(axis=0) > 0.8).all()
    assert (chances.mean(axis=0) > 0.02).all()
    assert np.ptp(chances[:, -1]) == 0


def test_lining_lies_at_the_cavity_and_rim_at_the_outline():
    for tube, name in ((CAVITY, "Lining"), (OUTLINE, "Rim")):
        surface = tube.surface()
        surface = surface[(surface[:, 2] > 0) & (surface[:, 2] < 1)] * SCALE
        chances = cell_type_probabilities(SHAPE, surface)[:, CELL_TYPES.index(name)]
        assert np.median(chances) > 0.9


def test_layers_follow_each_other_outwards(tissue):
    depth = SHAPE.relative_depth(tissue)
    chances = cell_type_probabilities(SHAPE, tissue)
    mean_depth = [np.average(depth, weights=chances[:, k]) for k in range(5)]
    assert mean_depth == sorted(mean_depth)


def test_probabilities_change_smoothly(tissue):
    step = cell_type_probabilities(SHAPE, tissue + np.array([0, 0, 0.01])) - cell_type_probabilities(SHAPE, tissue)
    assert np.abs(step).max() < 0.005


def test_density_is_nothing_outside_and_highest_at_the_lining(tissue):
    values = density(SHAPE, tissue)
    assert (values > 0).all()
    lining = cell_type_probabilities(SHAPE, tissue)[:, 0] > 0.8
    rim = cell_type_probabilities(SHAPE, tissue)[:, 4] > 0.8
    assert values[lining].mean() > 2 * values[rim].mean()
    assert density(SHAPE, np.array([[2_000.0, 0.0, 100.0]])) == 0
