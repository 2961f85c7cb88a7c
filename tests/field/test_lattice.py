from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from isost.field import Estimate, Lattice, LocalLinear

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIGIN, PITCH = np.array([3.0, -2.0]), 0.25


def wavy(place: NDArray[np.float64]) -> Estimate:
    x, y = place.T
    return Estimate(np.column_stack([np.sin(3 * x) * y, x + 2 * y + x * y]), 1 + x**2)


def one_by_one(lattice: Lattice, query: NDArray[np.float64]) -> Estimate:
    """Slow: along x, then along y."""
    mean, leverage = [], []
    for place in query:
        low = np.floor((place - lattice.origin) / lattice.pitch)
        t, u = (place - lattice.origin) / lattice.pitch - low
        at = {(i, j): wavy(lattice.origin + (low + np.array([[i, j]])) * lattice.pitch) for i in (0, 1) for j in (0, 1)}
        for out, part in ((mean, "mean"), (leverage, "leverage")):
            below, above = ((1 - t) * getattr(at[0, j], part)[0] + t * getattr(at[1, j], part)[0] for j in (0, 1))
            out.append((1 - u) * below + u * above)
    return Estimate(np.array(mean), np.array(leverage))


def test_between_nodes_is_their_bilinear_mean() -> None:
    lattice = Lattice(ORIGIN, PITCH)
    query = np.random.default_rng(0).uniform(-9, 9, (200, 2))
    found, wanted = lattice.interpolate(wavy, query), one_by_one(lattice, query)
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-12)
    np.testing.assert_allclose(found.leverage, wanted.leverage, atol=1e-12)
    np.testing.assert_allclose(found.mean[:, 1], wavy(query).mean[:, 1], atol=1e-12)  # bilinear itself


@pytest.mark.parametrize("times", [1, 3])
def test_each_node_is_asked_once_and_answers_for_itself(times: int) -> None:
    asked: list[NDArray[np.float64]] = []

    def field(place: NDArray[np.float64]) -> Estimate:
        asked.append(place)
        return wavy(place)

    nodes = ORIGIN + np.random.default_rng(0).integers(-5, 5, (300, 2)) * PITCH
    found = Lattice(ORIGIN, PITCH).divided(times).interpolate(field, nodes + 1e-12)
    np.testing.assert_allclose(found.mean, wavy(nodes).mean, atol=1e-9)
    np.testing.assert_allclose(np.concatenate(asked), np.unique(nodes, axis=0), atol=1e-12)


def test_leverage_is_no_less_than_that_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    weights = LocalLinear(rng.random((60, 2)), np.eye(60), n_cells=12)  # of one cell in each column
    found = Lattice(np.zeros(2), 0.04).interpolate(weights, rng.random((50, 2)))
    true = (found.mean**2).sum(1)
    assert (found.leverage >= true - 1e-12).all()
    assert found.leverage.mean() < 1.1 * true.mean()


def test_nothing_asked_is_nothing_found() -> None:
    found = Lattice(ORIGIN, PITCH).interpolate(wavy, np.empty((0, 2)))
    assert found.mean.shape == (0, 2)
    assert found.leverage.shape == (0,)


@pytest.mark.parametrize("unfit", [np.nan, np.inf, 1e12])
def test_places_without_a_node_are_refused(unfit: float) -> None:
    with pytest.raises(ValueError, match="a place lies 1e\\+09 nodes or more from the origin"):
        Lattice(ORIGIN, PITCH).interpolate(wavy, np.array([[0.0, 0.0], [unfit, 0.0]]))
