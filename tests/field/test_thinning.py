from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from isost.field import hilbert_order, systematic_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Offset:
    """A generator whose one draw is known."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def _points(n: int, *, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((n, 2))


def _curve(order: int) -> list[tuple[int, int]]:
    """Hilbert's curve by its definition: four smaller ones, the first and the last of them turned."""
    if order == 0:
        return [(0, 0)]
    inner, side = _curve(order - 1), 2 ** (order - 1)
    return [
        *((y, x) for x, y in inner),
        *((x, y + side) for x, y in inner),
        *((x + side, y + side) for x, y in inner),
        *((2 * side - 1 - y, side - 1 - x) for x, y in inner),
    ]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_is_the_hilbert_curve(order: int) -> None:
    curve = np.array(_curve(order), dtype=float)
    assert (np.abs(np.diff(curve, axis=0)).sum(1) == 1).all()
    shuffled = np.random.default_rng(0).permutation(curve)
    np.testing.assert_array_equal(shuffled[hilbert_order(shuffled * 30 - 100)], curve)


def test_neighbours_in_the_order_are_near() -> None:
    points = _points(4000)
    order = hilbert_order(points)
    np.testing.assert_array_equal(np.sort(order), np.arange(4000))
    steps = np.linalg.norm(np.diff(points[order], axis=0), axis=1)
    assert steps.mean() < 1.2 / np.sqrt(4000)


def test_order_keeps_points_at_one_place_as_they_came() -> None:
    np.testing.assert_array_equal(hilbert_order(np.full((5, 2), 3.0)), np.arange(5))
    assert len(hilbert_order(np.empty((0, 2)))) == 0


def test_inclusion_probabilities_are_the_weights() -> None:
    points, weights = _points(150), np.random.default_rng(1).random(150)
    offsets = (np.arange(1000) + 0.5) / 1000  # every offset there is, evenly
    counts = np.zeros(150)
    for offset in offsets:
        counts[systematic_sample(points, weights, generator=_Offset(offset))] += 1
    np.testing.assert_allclose(counts / 1000, weights, atol=2e-3)


def test_total_is_within_one_of_the_weights() -> None:
    generator = np.random.default_rng(0)
    for seed in range(50):
        weights = np.random.default_rng(seed).random(80)
        drawn = systematic_sample(_points(80, seed=seed), weights, generator=generator)
        assert abs(len(drawn) - weights.sum()) < 1
        np.testing.assert_array_equal(drawn, np.unique(drawn))


def test_counts_in_squares_scatter_far_less_than_coin_flips() -> None:
    points, generator = _points(1600), np.random.default_rng(1)
    square = (points * 4).astype(int) @ [4, 1]
    counts = np.array(
        [
            np.bincount(square[systematic_sample(points, np.full(1600, 0.3), generator=generator)], minlength=16)
            for _ in range(100)
        ]
    )
    binomial = np.bincount(square) * 0.3 * 0.7
    assert (counts.var(axis=0) < 0.05 * binomial).all()


def test_certain_and_impossible_points() -> None:
    points = _points(300)
    weights = (np.random.default_rng(1).random(300) < 0.5).astype(float)
    for offset in (0.0, 0.4, np.nextafter(1, 0)):
        drawn = systematic_sample(points, weights, generator=_Offset(offset))
        np.testing.assert_array_equal(drawn, np.flatnonzero(weights))


def test_same_seed_same_points() -> None:
    points, weights = _points(100), np.full(100, 0.37)
    first, again, other = (
        systematic_sample(points, weights, generator=np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other


def test_single_precision_weights_add_up() -> None:
    weights = np.full(300_000, 0.1, dtype=np.float32)
    drawn = systematic_sample(_points(300_000), weights, generator=np.random.default_rng(0))
    assert abs(len(drawn) - weights.sum(dtype=np.float64)) < 1


def test_nothing_to_draw_from() -> None:
    assert len(systematic_sample(np.empty((0, 2)), np.empty(0), generator=np.random.default_rng(0))) == 0
