from __future__ import annotations

import numpy as np
import pytest

from isost.metrics import Section, registration
from isost.metrics._registration import _image

WIDTH = 100.0
PIXEL = WIDTH / 64


def section(seed, *, n=1500):
    """Cells in a wedge of a disc, which no rotation or mirroring brings onto itself, with two fields as values."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (4 * n, 2))
    x, y = points.T
    points = points[(x**2 + y**2 < 1) & ~((x > 0) & (y > 0.2))][:n]
    x, y = points.T
    values = np.column_stack([np.sin(4 * x + y), np.cos(3 * y)]) + rng.normal(0, 0.5, (len(points), 2))
    return points * WIDTH / 2, values


def turned(points, degrees, *, mirrored=False):
    """About the mean of the points."""
    radians = np.deg2rad(degrees)
    rotation = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    center = points.mean(axis=0)
    return center + (points - center) * [-1 if mirrored else 1, 1] @ rotation.T


def undone(points, found):
    """What a registration says to do."""
    return turned(points, found.rotation, mirrored=found.mirrored) + found.shift


def test_registered_sections_have_nothing_to_gain():
    (lower, lower_values), (upper, upper_values) = section(0), section(1)
    found = registration(Section(lower, lower_values), Section(upper, upper_values))
    assert found.overlap > 0.95
    assert found.correlation > 0.9
    assert found.gain < 0.01
    assert (abs(found.rotation), found.mirrored) <= (3, False)
    assert np.abs(found.shift).max() < 2 * PIXEL


@pytest.mark.parametrize(
    ("degrees", "mirrored", "shift"),
    [(0, False, [30, -12]), (0, False, [1000, 0]), (37, False, [0, 0]), (0, True, [0, 0]), (-142, True, [5, 20])],
)
def test_what_was_done_to_a_section_is_found(degrees, mirrored, shift):
    (lower, lower_values), (upper, upper_values) = section(0), section(1)
    moved = turned(upper, degrees, mirrored=mirrored) + shift
    found = registration(Section(lower, lower_values), Section(moved, upper_values))
    assert found.mirrored == mirrored
    assert found.gain > 0.15
    assert min(found.best_overlap, found.best_correlation) > 0.9
    np.testing.assert_allclose(undone(moved, found), upper, atol=3 * PIXEL)


def test_outline_alone_and_values_alone_can_tell():
    (lower, _), (upper, _) = section(0), section(1)
    flat = [np.zeros((len(points), 1)) for points in (lower, upper)]
    by_outline = registration(Section(lower, flat[0]), Section(turned(upper, 50), flat[1]))
    assert (abs(by_outline.rotation + 50) <= 3, by_outline.best_correlation) == (True, 0)
    grid = np.argwhere(np.ones((40, 40))) * 2.5  # a square: nothing but values shows that it is turned
    pattern = np.sin(grid[:, :1] / 15) + grid[:, 1:] / 50
    by_values = registration(Section(grid, pattern), Section(turned(grid, 90), pattern))
    assert (by_values.rotation, by_values.mirrored) == (-90, False)
    assert by_values.overlap == pytest.approx(1, abs=0.01)


def test_overlap_of_squares_that_share_a_part():
    """Two unit squares, one shifted by a third: two thirds of each lie on the other."""
    grid = np.argwhere(np.ones((60, 60))) / 60
    for shift, overlap in ((1 / 3, 2 / 3), (1.5, 0)):
        square, shifted = (Section(points, np.ones((3600, 1))) for points in (grid, grid + np.array([shift, 0])))
        assert registration(square, shifted).overlap == pytest.approx(overlap, abs=0.03)


def test_images_give_overlap_and_correlation_as_a_sum_of_products():
    points, values = section(0)
    image = _image(points / PIXEL, values, 64, 2.0)
    assert (image[0] ** 2).sum() == pytest.approx(0.5)
    assert (image[1:] ** 2).sum() == pytest.approx(0.5)
    assert (image[1:, image[0] == 0] == 0).all()


def test_nothing_in_common_gives_no_correlation():
    (lower, _), (upper, _) = section(0), section(1)
    rng = np.random.default_rng(2)
    noise = [Section(points, rng.normal(size=(len(points), 10))) for points in (lower, upper)]
    found = registration(*noise)
    assert found.best_correlation < 0.2
