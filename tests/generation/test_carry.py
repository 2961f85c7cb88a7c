from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from isost._normalization import Normalization
from isost.generation import Carried, _carry, carry_sections, locate, runs_of_gaps
from isost.model import IsoST, ModelSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

N_COMPS = 2
DEPTHS = np.array([0.0, 0.1, 0.35, 0.4])  # uneven gaps
SIZES = (12, 9, 15, 8)


class Velocity(torch.nn.Module):
    """Drift that is the same everywhere, and counts how often it is asked."""

    def __init__(self, velocity: Sequence[float], *, planar: bool = True) -> None:
        super().__init__()
        self.velocity = torch.nn.Parameter(torch.tensor(velocity))
        self.planar = planar
        self.calls = 0

    def forward(self, state: torch.Tensor, *, sizes: Sequence[int]) -> torch.Tensor:
        assert sum(sizes) == len(state)
        self.calls += 1
        return self.velocity.expand_as(state)


UP, DOWN = (0.5, -1.0, 1.0, 2.0, 0.0), (-0.25, 0.5, 1.0, 0.0, 3.0)


def make_model(forward: Any, backward: Any, **settings: Any) -> IsoST:
    return IsoST(
        ModelSettings(n_comps=N_COMPS, dual=backward is not None, **settings),
        forward,
        backward,
        normalization=Normalization(np.zeros(3 + N_COMPS), np.ones(3 + N_COMPS)),
        genes=[],
        loadings=np.zeros((0, N_COMPS)),
        component_variance=np.ones(N_COMPS),
        cell_variance=np.ones(N_COMPS),
    )


@pytest.fixture
def states() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    parts = [rng.random((n, 3 + N_COMPS)).astype(np.float32) for n in SIZES]
    for part, depth in zip(parts, DEPTHS, strict=True):
        part[:, 2] = depth
    return parts


def carried(
    model: IsoST, states: list[NDArray[np.float32]], targets: Sequence[float], *, seed: int = 0, parts: Any = "both"
) -> dict[tuple[int, int], Carried]:
    """By target and section, of which each pair may come once."""
    found = list(carry_sections(model, states, DEPTHS, np.asarray(targets), seed=seed, parts=parts))
    assert max(Counter((c.target, c.section) for c in found).values()) == 1
    return {(c.target, c.section): c for c in found}


@pytest.mark.parametrize(
    ("target", "gap", "fraction"),
    [(0.0, 0, 0.0), (0.05, 0, 0.5), (0.1, 1, 0.0), (0.15, 1, 0.2), (0.35, 2, 0.0), (0.39, 2, 0.8), (0.4, 2, 1.0)],
)
def test_locate_gives_gap_and_fraction(target: float, gap: int, fraction: float) -> None:
    place = locate(DEPTHS, target)
    assert place.gap == gap
    assert place.fraction == pytest.approx(fraction, abs=1e-12)


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("rounding", [-1e-16, 0.0, 1e-16])
def test_a_depth_within_rounding_of_a_section_is_that_section(k: int, rounding: float) -> None:
    place = locate(DEPTHS, DEPTHS[k] + rounding)
    assert place.fraction in (0.0, 1.0)
    assert place.gap + place.fraction == k


def test_a_measured_depth_gives_the_section_itself(states: list[NDArray[np.float32]]) -> None:
    forward, backward = Velocity(UP), Velocity(DOWN)
    model = make_model(forward, backward, sigma=(1.0, 1.0, 0.0, 1.0))
    found = carried(model, states, DEPTHS[::-1])
    assert set(found) == {(0, 3), (1, 2), (2, 1), (3, 0)}
    for (_, section), part in found.items():
        assert part.weight == 1.0
        assert np.array_equal(part.state, states[section])
    assert forward.calls == backward.calls == 0


def test_targets_in_any_order_get_both_sections_around_with_weights_that_sum_to_one(
    states: list[NDArray[np.float32]],
) -> None:
    targets = [0.38, 0.02, 0.3, 0.07, 0.02, 0.11]  # one of them twice
    found = carried(make_model(Velocity(UP), Velocity(DOWN)), states, targets)
    assert set(found) == {(i, locate(DEPTHS, t).gap + side) for i, t in enumerate(targets) for side in (0, 1)}
    for (target, section), part in found.items():
        gap, fraction = locate(DEPTHS, targets[target])
        assert part.weight == pytest.approx(1 - fraction if section == gap else fraction, abs=1e-12)
    for side in (1, 0):
        np.testing.assert_array_equal(found[1, side].state, found[4, side].state)


def test_cells_of_a_constant_drift_land_where_it_takes_them(states: list[NDArray[np.float32]]) -> None:
    targets = [0.399, 0.33, 0.05, 0.101, 0.2]
    found = carried(make_model(Velocity(UP), Velocity(DOWN)), states, targets)
    assert len(found) == 2 * len(targets)
    for (target, section), part in found.items():
        velocity = UP if section == locate(DEPTHS, targets[target]).gap else DOWN
        expected = states[section] + np.array(velocity) * (targets[target] - DEPTHS[section])
        np.testing.assert_allclose(part.state, expected, atol=2e-6)
        assert (part.state[:, 2] == np.float32(targets[target])).all()  # planar: exactly the depth asked for


def test_cells_that_are_not_planar_keep_the_depth_they_drift_to(states: list[NDArray[np.float32]]) -> None:
    slow = (0.0, 0.0, 0.5, 0.0, 0.0)
    model = make_model(Velocity(slow, planar=False), Velocity(slow, planar=False), planar=False)
    found = carried(model, states, [0.05])
    np.testing.assert_allclose(found[0, 0].state[:, 2], 0.025, atol=1e-6)
    np.testing.assert_allclose(found[0, 1].state[:, 2], 0.075, atol=1e-6)


def test_steps_are_about_as_long_as_the_model_wants_them(states: list[NDArray[np.float32]]) -> None:
    forward, backward = Velocity(UP), Velocity(DOWN)
    carried(make_model(forward, backward, delta_z=0.02), states, [0.34])  # gap from 0.1 to 0.35
    assert (forward.calls, backward.calls) == (12, 1)


def test_without_a_backward_drift_the_lower_section_counts_whole(states: list[NDArray[np.float32]]) -> None:
    found = carried(make_model(Velocity(UP), None), states, [0.05, 0.2, 0.4])
    assert set(found) == {(0, 0), (1, 1), (2, 3)}
    assert {part.weight for part in found.values()} == {1.0}


def drifting_model(**settings: Any) -> IsoST:
    """Networks with random weights, whose drift depends on the neighbours of each point.

    With these weights no two points score alike where the U-Net pools: rounding, which differs from one processor and
    number of points to the next, would decide between them.
    """
    wanted = ModelSettings(n_comps=N_COMPS, hidden_dim=8, n_neighbors=3, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        drifts = [wanted.drift().eval() for _ in range(2)]
    return make_model(*drifts, hidden_dim=8, n_neighbors=3, **settings)


@pytest.mark.parametrize("sigma", [(0.0, 0.0, 0.0, 0.0), (0.3, 0.3, 0.0, 0.3)])
@pytest.mark.parametrize("most_points", [1, 22])
def test_chunks_change_nothing(
    states: list[NDArray[np.float32]],
    sigma: tuple[float, ...],
    most_points: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, targets = drifting_model(sigma=sigma), [0.05, 0.3, 0.38, 0.2]
    together = carried(model, states, targets)
    monkeypatch.setattr(_carry, "_MOST_POINTS", most_points)
    apart = carried(model, states, targets)
    assert together.keys() == apart.keys()
    for key, part in together.items():
        np.testing.assert_allclose(part.state, apart[key].state, atol=1e-5)
        assert part.weight == apart[key].weight


@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize("sigma", [(0.0, 0.0, 0.0, 0.0), (0.3, 0.3, 0.0, 0.3)])
def test_positions_carried_alone_are_those_carried_with_expression(
    states: list[NDArray[np.float32]], sigma: tuple[float, ...], planar: bool
) -> None:
    model, targets = drifting_model(sigma=sigma, planar=planar), [0.05, 0.1, 0.3, 0.38, 0.2]
    whole = carried(model, states, targets)
    asked = []
    for drift in model.drifts.values():
        drift.expression.register_forward_hook(lambda *_: asked.append(1))
    alone = carried(model, states, targets, parts="shape")
    assert not asked
    assert alone.keys() == whole.keys()
    for key, part in alone.items():
        np.testing.assert_array_equal(part.state, whole[key].state[:, :3])
        assert part.weight == whole[key].weight


def test_gaps_walk_in_runs_of_bounded_size() -> None:
    runs = list(runs_of_gaps({0: 40_000, 1: 20_000, 3: 10_000, 4: 70_000}))
    assert runs == [[0, 1], [3], [4]]  # the last is larger than the bound by itself


def test_the_same_seed_gives_the_same_cells_and_another_seed_others(states: list[NDArray[np.float32]]) -> None:
    model = drifting_model(sigma=(0.3, 0.3, 0.0, 0.3))
    first, again, other = (carried(model, states, [0.05, 0.2], seed=seed) for seed in (5, 5, 6))
    for key, part in first.items():
        assert np.array_equal(part.state, again[key].state)
        assert not np.allclose(part.state, other[key].state)


def test_noise_grows_with_the_way_and_differs_between_gaps_and_directions() -> None:
    rng = np.random.default_rng(1)
    n, sigma = 4000, (0.5, 0.25, 0.0, 1.0)
    states = [rng.random((n, 3 + N_COMPS)).astype(np.float32) for _ in DEPTHS]
    still = (0.0, 0.0, 1.0, 0.0, 0.0)
    model = make_model(Velocity(still), Velocity(still), sigma=sigma)
    noise: dict[tuple[int, int], NDArray[Any]] = {}
    for key, part in carried(model, states, [0.03, 0.3]).items():
        noise[key] = np.delete(part.state - states[part.section], 2, axis=1)
        way = abs([0.03, 0.3][part.target] - DEPTHS[part.section])
        np.testing.assert_allclose(noise[key].std(0), np.array([0.5, 0.25, 1.0, 1.0]) * np.sqrt(way), rtol=0.06)
    columns = np.column_stack([part[:, 0] for part in noise.values()])
    correlation = np.corrcoef(columns.T) - np.eye(len(noise))
    assert np.abs(correlation).max() < 0.06


def test_states_come_out_as_float32_whatever_they_were(states: list[NDArray[np.float32]]) -> None:
    model = make_model(Velocity(UP), Velocity(DOWN))
    wide = [state.astype(np.float64) for state in states]
    for part in carry_sections(model, wide, DEPTHS, np.array([0.0, 0.05]), seed=0):
        assert part.state.dtype == np.float32


def test_depths_with_a_large_offset_are_found() -> None:
    depths = 1e6 + np.arange(4.0)
    for k in range(3):
        for t in (0.25, 0.5):
            assert locate(depths, 1e6 + k + t) == (k, t)
    assert locate(depths, 1e6 + 3) == (2, 1.0)
