from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isost._processes import ALONE, Processes
from isost.field import LocalLinear
from isost.nn import Drift
from isost.training import BridgeObjective, Displacements, Paths, _bridge, initialize_drift, section_paths
from isost.training._bridge import _mean_squares

N_COMPS = 2


def _paths(
    n_sections: int = 3, *, shift: float = 1.0, moved: float = 0.1, n: int = 40, seed: int = 0
) -> tuple[Paths, Paths]:
    """Sections that rise along x, each a little more than the last in x and in both components."""
    rng = np.random.default_rng(seed)
    depths = 0.1 * np.arange(n_sections)
    positions = [rng.random((n + k, 2)) for k in range(n_sections)]
    expression = [np.c_[p[:, 0] + z, p[:, 1] - 2 * z] for p, z in zip(positions, depths, strict=True)]
    step = np.array([moved, -moved / 2])
    return section_paths(
        positions,
        expression,
        depths,
        field=[LocalLinear(p, e, n_cells=15) for p, e in zip(positions, expression, strict=True)].__getitem__,
        displacements=Displacements(
            up=[np.tile(step, (len(p), 1)) for p in positions[:-1]],
            down=[np.tile(-step, (len(p), 1)) for p in positions[1:]],
        ),
        expression_shift=shift,
    )


def _double(paths: Paths) -> Paths:
    return Paths(*[part.double() if isinstance(part, Tensor) else part for part in vars(paths).values()])


def _drift(seed: int = 0, *, planar: bool = True) -> Drift:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Drift(N_COMPS, hidden_dim=8, unet_depth=1, n_neighbors=4, planar=planar)


def _still(paths: tuple[Paths, Paths]) -> list[Drift]:
    drifts = [_drift(seed) for seed in (0, 1)]
    for drift, direction in zip(drifts, paths, strict=True):
        initialize_drift(drift, direction)
    return drifts


def _loss(
    objective: BridgeObjective,
    forward: Drift,
    backward: Drift | None,
    *,
    seed: int = 0,
    rows: list[Tensor] | None = None,
) -> tuple[Tensor, dict[str, float]]:
    (phase,) = objective.phases(1)
    return objective.loss(forward, backward, iteration=0, phase=phase, noise_seed=seed, rows=rows)


def test_standing_still_costs_one_in_each_part() -> None:
    paths = _paths()
    objective, drifts = BridgeObjective(*paths), _still(paths)
    assert objective.moves_expression
    numbers = [_loss(objective, *drifts, seed=seed)[1] for seed in range(60)]
    for name in ("shape", "expression"):
        assert np.mean([n[name] for n in numbers]) == pytest.approx(1, abs=0.05)
    assert numbers[0]["loss"] == pytest.approx(numbers[0]["shape"] + numbers[0]["expression"])


def test_scales_are_the_mean_squared_velocities(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n = 20
    rough = [torch.from_numpy(rng.normal(size=shape)) for shape in [(n, 2)] * 4 + [(n, N_COMPS), (5, n, N_COMPS)]]
    paths = Paths(*rough, depth=torch.zeros(2).double(), gap=torch.full((2,), -0.2).double(), sizes=(12, 8))
    fractions = (torch.arange(2000) + 0.5).double() / 2000
    drifts = torch.stack([paths.at(t.expand(2))[1] for t in fractions])
    wanted = ((drifts[..., :2] ** 2).mean().item(), (drifts[..., 3:] ** 2).mean().item())
    assert _mean_squares(paths) == pytest.approx(wanted, rel=1e-5)
    monkeypatch.setattr(_bridge, "_CELLS_AT_ONCE", 5)
    assert _mean_squares(paths) == pytest.approx(wanted, rel=1e-5)


def test_loss_is_the_distance_to_the_velocity_of_the_paths() -> None:
    paths = _paths()
    objective, drifts = BridgeObjective(*paths), [_drift(seed) for seed in (2, 3)]
    _, numbers = _loss(objective, *drifts, seed=5)
    generator = torch.Generator().manual_seed(5)
    shape, expression = [], []
    for drift, direction in zip(drifts, paths, strict=True):
        state, target = direction.at(torch.rand(2, generator=generator))
        error = (drift(state, sizes=direction.sizes) - target) ** 2
        for found, columns, scale in zip(
            (shape, expression), (slice(2), slice(3, None)), _mean_squares(direction), strict=True
        ):
            found.append(error[:, columns].mean().item() / scale)
    assert numbers["shape"] == pytest.approx(np.mean(shape))
    assert numbers["expression"] == pytest.approx(np.mean(expression))


def test_gradient_equals_finite_differences() -> None:
    objective = BridgeObjective(*map(_double, _paths(n=8)))
    drifts = [_drift(seed).double() for seed in (2, 3)]
    names, weights = zip(*drifts[0].named_parameters(), strict=True)

    class Fixed(torch.nn.Module):
        """The forward drift with the weights given."""

        planar = True

        def __init__(self, values: tuple[Tensor, ...]) -> None:
            super().__init__()
            self.values = dict(zip(names, values, strict=True))

        def forward(self, state: Tensor, **kws: Any) -> Tensor:
            return torch.func.functional_call(drifts[0], self.values, (state,), kws)

    def loss(*values: Tensor) -> Tensor:
        return _loss(objective, Fixed(values), drifts[1])[0]

    assert torch.autograd.gradcheck(loss, weights, fast_mode=True)


def test_same_seed_same_loss() -> None:
    paths = _paths()
    objective, drifts = BridgeObjective(*paths), [_drift(seed) for seed in (2, 3)]
    first, again, other = (_loss(objective, *drifts, seed=seed)[0].item() for seed in (1, 1, 2))
    assert first == again != other


def test_training_learns_the_paths() -> None:
    paths = _paths()
    objective, drifts = BridgeObjective(*paths), _still(paths)
    optimizer = torch.optim.NAdam([weight for drift in drifts for weight in drift.parameters()], lr=0.01)
    for step in range(80):
        loss, numbers = _loss(objective, *drifts, seed=step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert numbers["shape"] < 0.05
    assert numbers["expression"] < 0.2
    state, _ = paths[0].at(torch.tensor([0.5, 0.5]))
    with torch.no_grad():
        velocity = drifts[0](state, sizes=paths[0].sizes)[:, :3].mean(0)
    torch.testing.assert_close(velocity, torch.tensor([1.0, -0.5, 1.0]), atol=0.15, rtol=0)


def test_expression_that_stays_needs_no_network() -> None:
    paths = _paths(shift=0.0)
    objective, drifts = BridgeObjective(*paths), _still(paths)
    assert not objective.moves_expression
    loss, numbers = _loss(objective, *drifts)
    loss.backward()
    assert numbers["expression"] == 0
    for drift in drifts:
        assert all(weight.grad is None for weight in drift.expression.parameters())
        without = {name for name, weight in drift.shape.named_parameters() if weight.grad is None}
        assert without == {"layers.0.key.bias"}  # alike for all neighbours, so of no effect


def test_sections_that_stay_teach_standing_still() -> None:
    paths = _paths(shift=0.0, moved=0.0)
    objective = BridgeObjective(*paths)
    loss, _ = _loss(objective, *_still(paths))
    assert loss.item() == 0
    loss.backward()
    assert _loss(objective, _drift(2), _drift(3))[0].item() > 0


def test_forward_alone() -> None:
    paths = _paths()
    objective, drift = BridgeObjective(*paths), _drift(2)
    alone = _loss(objective, drift, None)[1]
    mirrored = BridgeObjective(paths[0], paths[0])
    assert alone["shape"] == pytest.approx(_loss(mirrored, drift, None)[1]["shape"])
    assert set(alone) == {"loss", "shape", "expression"}


def test_rows_are_the_cells_that_are_seen() -> None:
    paths = _paths()
    objective, drifts = BridgeObjective(*paths), [_drift(seed) for seed in (2, 3)]
    every = [torch.arange(40 + k) for k in range(3)]
    assert _loss(objective, *drifts, rows=(every[:-1], every[1:]))[1] == pytest.approx(_loss(objective, *drifts)[1])

    rows = [torch.arange(0, 30), torch.arange(3), torch.arange(10, 35)]  # the middle section sits out
    _, numbers = _loss(objective, *drifts, seed=4, rows=(rows[:-1], rows[1:]))
    generator, shape = torch.Generator().manual_seed(4), []
    for drift, direction, block, part in ((drifts[0], paths[0], 0, rows[0]), (drifts[1], paths[1], 1, rows[2])):
        taken = direction.take({block: part})
        state, target = taken.at(torch.rand(1, generator=generator))
        error = ((drift(state) - target)[:, :2] ** 2).mean().item()
        shape.append(error / _mean_squares(direction)[0])
    assert numbers["shape"] == pytest.approx(np.mean(shape))


@pytest.mark.parametrize("n_processes", [2, 3, 7])  # for four blocks
@pytest.mark.parametrize("kept", [None, [30, 3, 25]])  # the middle section sits out
def test_processes_have_the_loss_of_one_as_their_mean(n_processes: int, kept: list[int] | None) -> None:
    paths = [_double(direction) for direction in _paths()]
    drifts = [_drift(seed).double() for seed in (2, 3)]
    rows = kept and [torch.arange(n) for n in kept]

    def loss(*processes: Processes) -> tuple[Tensor, dict[str, float]]:
        own = [
            _loss(BridgeObjective(*paths, processes=each), *drifts, rows=rows and (rows[:-1], rows[1:]))
            for each in processes
        ]
        means = {name: np.mean([numbers[name] for _, numbers in own]) for name in own[0][1]}
        return torch.stack([value for value, _ in own]).mean(), means

    whole, numbers = loss(ALONE)
    together, means = loss(*[Processes(rank, n_processes) for rank in range(n_processes)])
    assert means == pytest.approx(numbers, rel=1e-12)
    weights = [weight for drift in drifts for weight in drift.parameters()]
    found, wanted = (torch.autograd.grad(value, weights, materialize_grads=True) for value in (together, whole))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_small_stacks_are_one_batch() -> None:
    paths = _paths()
    assert BridgeObjective(*paths).batches(generator=torch.Generator().manual_seed(0)) == [None]


def _flat(batches: list) -> list[torch.Tensor]:
    return [rows for up, down in batches for rows in (*up, *down)]


def test_tiles_cover_every_cell_once() -> None:
    paths = _paths(n=200)
    objective = BridgeObjective(*paths, batch_size=60)
    first, again, other = (objective.batches(generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    for direction, sizes in enumerate((paths[0].sizes, paths[1].sizes)):
        for block, size in enumerate(sizes):
            rows = torch.cat([batch[direction][block] for batch in first])
            assert torch.equal(rows.sort().values, torch.arange(size))
    assert max(map(len, _flat(first))) <= 60
    assert all(map(torch.equal, _flat(first), _flat(again)))
    assert not torch.equal(_flat(first)[0], _flat(other)[0])
    assert all(map(torch.equal, _flat(objective.batches()), _flat(objective.batches())))
    drifts = _still(paths)
    for rows in first:
        assert torch.isfinite(_loss(objective, *drifts, rows=rows)[0])


def test_many_sections_are_shared_out_among_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isost.training._bridge._MOST_POINTS", 100)
    paths = _paths(9, n=40)
    for batch_size in (1000, 30):  # whole sections, and tiles of them
        objective = BridgeObjective(*paths, batch_size=batch_size, at_least=1)
        batches = objective.batches(generator=torch.Generator().manual_seed(0))
        for direction, own in enumerate(paths):
            for block, size in enumerate(own.sizes):
                rows = torch.cat([batch[direction][block] for batch in batches])
                assert torch.equal(rows.sort().values, torch.arange(size))
            assert max(sum(map(len, batch[direction])) for batch in batches) <= 100 + max(own.sizes)
        assert all(torch.isfinite(_loss(objective, *_still(paths), rows=rows)[0]) for rows in batches)


def test_tiles_without_a_start_for_both_directions_are_left_out() -> None:
    # section 0 lies apart from section 1, so no tile holds cells of both
    rng = np.random.default_rng(0)
    positions = [rng.random((60, 2)), rng.random((60, 2)) + np.array([5.0, 0.0])]
    still = Displacements(up=[np.zeros((60, 2))], down=[np.zeros((60, 2))])
    paths = section_paths(
        positions,
        [p.copy() for p in positions],
        np.array([0.0, 0.1]),
        field=[LocalLinear(p, p, n_cells=9) for p in positions].__getitem__,
        displacements=still,
        expression_shift=0.0,
    )
    assert BridgeObjective(*paths, batch_size=30).batches() == []


def test_wrong_settings_are_named() -> None:
    paths = _paths()
    with pytest.raises(ValueError, match="batch_size=5 is below at_least=6"):
        BridgeObjective(*paths, batch_size=5)
    with pytest.raises(ValueError, match="planar=True"):
        _loss(BridgeObjective(*paths), _drift(planar=False), None)


@pytest.mark.parametrize("n_sections", [2, 4])
def test_an_initialized_drift_moves_nothing(n_sections: int) -> None:
    paths, _ = _paths(n_sections)
    drift = _drift()
    initialize_drift(drift, paths)
    state, _ = paths.at(torch.full_like(paths.gap, 0.3))
    moved = drift(state, sizes=paths.sizes)
    assert not moved[:, :2].any()
    assert not moved[:, 3:].any()
    assert (moved[:, 2] == 1).all()
    (moved[:, [0, 1, 3]] - 1).square().sum().backward()
    assert drift.shape.layers[-1].skip.weight.grad.any()
    assert drift.expression.up[-1].linear.weight.grad.any()


@pytest.mark.parametrize("n_sections", [2, 4])
def test_an_initialized_drift_sees_standardised_inputs(n_sections: int) -> None:
    paths, _ = _paths(n_sections)
    drift = _drift()
    fresh = copy.deepcopy(drift)
    initialize_drift(drift, paths)
    state = torch.cat([paths.at(torch.full_like(paths.gap, t))[0] for t in (0.0, 1.0)])
    standard = 2 * (state - state.mean(0)) / state.std(0)
    assert standard.std(0) == pytest.approx([2] * 5, rel=1e-4)
    for name in ("query", "key", "value", "skip"):
        found, wanted = (getattr(which.shape.layers[0], name) for which in (drift, fresh))
        torch.testing.assert_close(found(state[:, :3]), wanted(standard[:, :3]), atol=1e-4, rtol=1e-4)
    found, wanted = (which.expression.down[0] for which in (drift, fresh))
    torch.testing.assert_close(found.linear(state) + found.bias, wanted.linear(standard), atol=1e-4, rtol=1e-4)


def test_initialize_a_drift_of_positions_alone() -> None:
    paths, _ = _paths()
    drift = Drift(0, hidden_dim=4, planar=True)
    initialize_drift(drift, paths)
    state, _ = paths.at(torch.full_like(paths.gap, 0.3))
    assert not drift(state[:, :3], sizes=paths.sizes)[:, :2].any()


def test_output_weights_learn_at_the_scale_of_the_velocity() -> None:
    slow, fast = _paths(moved=1e-4), _paths(moved=0.1)
    drifts = [Drift(N_COMPS, hidden_dim=8, planar=True) for _ in range(2)]
    groups = {
        speed: BridgeObjective(*paths).weight_groups(*drifts) for speed, paths in {"slow": slow, "fast": fast}.items()
    }
    for found in groups.values():
        weights = [weight for group in found for weight in group.weights]
        assert len(weights) == len({id(weight) for weight in weights})
        assert {id(weight) for weight in weights} == {id(w) for drift in drifts for w in drift.parameters()}
        assert found[0].lr_factor == 1
    last = drifts[0].shape.layers[-1].value.weight
    factor = {
        speed: next(group.lr_factor for group in found if any(weight is last for weight in group.weights))
        for speed, found in groups.items()
    }
    assert factor["slow"] < 1e-2 * factor["fast"] <= 1e-2


def test_paths_that_move_nothing_leave_the_learning_rate() -> None:
    drifts = [Drift(N_COMPS, hidden_dim=8, planar=True) for _ in range(2)]
    groups = BridgeObjective(*_paths(moved=0.0, shift=0.0)).weight_groups(*drifts)
    assert {group.lr_factor for group in groups} == {1.0}
