from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from isost.field import _balance, balanced_sample, systematic_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _merged(n: int = 300, t: float = 0.4, *, seed: int = 0, jitter: float = 0.25) -> dict[str, Any]:
    """Two jittered grids laid over each other, with values that have a pattern and a part of each point's own."""
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(n))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(float)
    position = np.concatenate([grid + rng.normal(size=grid.shape) * jitter + offset for offset in (0.0, 0.4)])
    values = np.c_[np.sin(position[:, 0]), np.cos(position[:, 1])] + rng.normal(size=position.shape)
    cloud = np.repeat([0, 1], len(grid))
    return {"position": position, "weights": np.where(cloud, t, 1 - t), "values": values, "cloud": cloud}


def _draw(points: dict[str, Any], *, seed: int = 0, **more: Any) -> NDArray[np.intp]:
    return balanced_sample(**points, nearest=1.0, generator=np.random.default_rng(seed), **more)


def _slow_energy(points: dict[str, Any], drawn: NDArray[np.intp]) -> float:
    """F of the docstring, every pair of points in turn, among all points."""
    position, w, values = points["position"], points["weights"], points["values"]
    s = np.zeros(len(w))
    s[drawn] = 1
    distance = np.linalg.norm(position[:, None] - position[None], axis=2)
    reach = np.sort(distance, axis=1)
    number = np.take_along_axis(np.broadcast_to(w, distance.shape), distance.argsort(axis=1), axis=1).cumsum(1)
    last = (number < _balance._SPACED_BY).sum(1)
    rows = np.arange(len(w))
    spacing = reach[rows, last] * np.sqrt(np.pi / number[rows, last])
    apart = values - (w @ values) / w.sum()
    apart /= np.sqrt((apart**2).sum(1).mean())
    total = 0.0
    for i in rows:
        for j in rows:
            relative = distance[i, j] / np.sqrt(spacing[i] * spacing[j])

            def kernel(d: float, which: tuple[float, float]) -> float:
                return which[1] * float(np.exp(-(d**2) / (2 * which[0] ** 2)))

            alike = 0.0 if i == j else kernel(relative, _balance._ALIKE)
            pair = kernel(relative, _balance._EVEN) + kernel(distance[i, j], _balance._APART)
            pair += (kernel(relative, _balance._BALANCED) - alike) * float(apart[i] @ apart[j])
            total += (s[i] - w[i]) * (s[j] - w[j]) * pair
    return total


def test_the_energy_is_that_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_balance, "_DRAWN_NEAR", 1000)  # all points are neighbours
    points = _merged(50)
    energy = _balance._energy(
        points["position"], points["weights"], points["values"], nearest=1.0, original=np.arange(len(points["weights"]))
    )
    for seed in range(3):
        drawn = np.random.default_rng(seed).permutation(len(points["weights"]))[:40]
        difference = -points["weights"]
        difference[drawn] += 1
        assert difference @ (energy @ difference) == pytest.approx(_slow_energy(points, drawn), rel=1e-9)


def test_no_single_point_gains_anything() -> None:
    points = _merged(100)
    weights = points["weights"]
    energy = _balance._energy(
        points["position"], weights, points["values"], nearest=1.0, original=np.arange(len(weights))
    )
    start = np.zeros(len(weights))
    start[systematic_sample(points["position"], weights, generator=np.random.default_rng(0))] = 1

    def value(drawn: NDArray[np.float64]) -> float:
        surplus = [(drawn - start)[points["cloud"] == k].sum() for k in (0, 1)]
        return float((drawn - weights) @ (energy @ (drawn - weights)) + _balance._IN_SHARE * np.square(surplus).sum())

    descent = _balance._Descent(energy, start, weights, points["cloud"], np.ones(len(weights), dtype=bool))
    changes = [descent._change(i) for i in range(len(weights))]
    for i in (0, 17, 150):
        turned = start.copy()
        turned[i] = 1 - turned[i]
        assert changes[i] == pytest.approx(value(turned) - value(start))
    found = descent.run(np.random.default_rng(0))
    assert value(found) < value(start)


@pytest.mark.parametrize("t", [0.1, 0.5])
def test_as_many_from_each_cloud_as_their_weights_say(t: float) -> None:
    points = _merged(400, t)
    for seed in range(3):
        drawn = _draw(points, seed=seed)
        assert (np.diff(drawn) > 0).all()
        start = systematic_sample(points["position"], points["weights"], generator=np.random.default_rng(seed))
        for k in (0, 1):
            assert (points["cloud"][drawn] == k).sum() == (points["cloud"][start] == k).sum()


def _around(points: dict[str, Any], drawn: NDArray[np.intp], n_near: int = 30) -> NDArray[np.float64]:
    """Squared difference, around every point, of the drawn points' number and values from the expected ones."""
    near = cKDTree(points["position"]).query(points["position"], n_near)[1]
    difference = -points["weights"]
    difference[drawn] += 1
    what = np.c_[np.ones(len(difference)), points["values"]]
    return ((difference[near][..., None] * what[near]).sum(1) ** 2).mean(0)


def test_places_are_represented_better_than_by_a_systematic_sample() -> None:
    balanced, systematic = [], []
    for seed in range(5):
        points = _merged(400, 0.5, seed=seed)
        balanced.append(_around(points, _draw(points)))
        start = systematic_sample(points["position"], points["weights"], generator=np.random.default_rng(0))
        systematic.append(_around(points, start))
    assert (np.mean(balanced, axis=0) < 0.9 * np.mean(systematic, axis=0)).all()


def test_points_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    points = _merged(900, 0.5, jitter=0.05)

    def spacing(rows: NDArray[np.intp]) -> float:
        chosen = points["position"][rows]
        return float(cKDTree(chosen).query(chosen, 2)[0][:, 1].mean())

    apart = spacing(_draw(points))
    monkeypatch.setattr(_balance, "_APART", (0.5, 0.0))
    assert apart > 1.05 * spacing(_draw(points))


def test_neighbours_are_alike() -> None:
    rng = np.random.default_rng(0)
    points = _merged(900, 0.5)
    # neighbours inside a cloud share a value that neighbours in the other cloud do not
    points["values"] = np.c_[
        np.sign(np.sin(points["position"] @ [1.1, 0.7] + 3 * points["cloud"])), rng.normal(size=1800)
    ]

    def likeness(rows: NDArray[np.intp]) -> float:
        near = cKDTree(points["position"][rows]).query(points["position"][rows], 5)[1][:, 1:]
        value = points["values"][rows, 0]
        return float((value[:, None] * value[near]).mean())

    start = systematic_sample(points["position"], points["weights"], generator=np.random.default_rng(0))
    assert likeness(_draw(points)) > likeness(start) + 0.05


def test_copies_of_one_point_are_rarely_drawn_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    # as an upright cut has them: each of 60 points again and again along a line, at half the spacing of those drawn
    rng = np.random.default_rng(0)
    across, along = np.sort(rng.uniform(0, 30, 60)), np.arange(0, 12, 0.5)
    position = np.column_stack([np.repeat(across, len(along)), np.tile(along, 60)])
    original = np.repeat(np.arange(60), len(along))
    kws: dict[str, Any] = {
        "position": position,
        "weights": np.full(len(position), 0.25),
        "values": np.repeat(rng.normal(size=(60, 3)), len(along), axis=0),
        "cloud": original % 2,
        "original": original,
    }

    def side_by_side() -> tuple[int, int]:
        drawn = _draw(kws)
        pairs = cKDTree(position[drawn]).query_pairs(0.6, output_type="ndarray")
        return len(drawn), int((original[drawn][pairs[:, 0]] == original[drawn][pairs[:, 1]]).sum())

    number, few = side_by_side()
    monkeypatch.setattr(_balance, "_ONCE", (1.0, 0.0))
    assert side_by_side()[0] == number
    assert few < 0.4 * side_by_side()[1]


def test_weights_of_zero_and_one_are_kept() -> None:
    points = _merged(100)
    points["weights"] = np.where(np.arange(200) % 3 == 0, 1.0, np.where(np.arange(200) % 3 == 1, 0.0, 0.4))
    drawn = _draw(points)
    assert np.isin(np.flatnonzero(points["weights"] == 1), drawn).all()
    assert not np.isin(np.flatnonzero(points["weights"] == 0), drawn).any()
    points["weights"] = np.repeat([1.0, 0.0], 100)
    np.testing.assert_array_equal(_draw(points), np.arange(100))


def test_the_seed_decides() -> None:
    points = _merged(100)
    assert _draw(points).tolist() == _draw(points).tolist() != _draw(points, seed=1).tolist()


def test_units_and_place_do_not_matter() -> None:
    points = _merged(100)
    moved = points | {"position": points["position"] * 250 + 1e5, "values": points["values"] * 3 - 7}
    found = balanced_sample(**moved, nearest=250.0, generator=np.random.default_rng(0))
    assert len(np.setxor1d(found, _draw(points))) <= 4  # rounding may decide between two that are as good


def test_blocks_bound_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    points = _merged(400)
    whole = _around(points, _draw(points))
    monkeypatch.setattr(_balance, "_BLOCK", 200)
    assert (_around(points, _draw(points)) < 2 * whole).all()


def test_odd_inputs() -> None:
    one = {"position": np.zeros((1, 2)), "weights": np.ones(1), "values": np.zeros((1, 2)), "cloud": np.zeros(1, int)}
    assert _draw(one).tolist() == [0]
    empty = {name: values[:0] for name, values in one.items()}
    assert len(_draw(empty)) == 0
    together = _merged(100) | {"position": np.zeros((200, 2)), "values": np.zeros((200, 1))}
    assert len(_draw(together)) == pytest.approx(100, abs=1)
    copies = _merged(100)
    assert len(_draw(copies, original=np.arange(200) % 100)) == pytest.approx(100, abs=1)
