from __future__ import annotations

from itertools import pairwise

import geomloss
import pytest
import torch
from torch import Tensor

from isost._processes import ALONE, Processes
from isost.nn import Drift
from isost.sde import GaussianNoise, depth_grid, walk
from isost.training._nearest import expression_loss
from isost.training._schedule import Phase
from isost.training._sinkhorn import sinkhorn_divergence
from isost.training._trajectory import TrajectoryObjective, TrajectorySettings

JOINT = Phase("joint", 1, 1.0, 0.1)
SHAPE = Phase("shape", 1, 1.0, 0.0)
EXPRESSION = Phase("expression", 1, 0.0, 1.0)
N_COMPS = 2


def _section(n: int, depth: float, *, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    state = torch.rand(n, 3 + N_COMPS, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    state[:, 2] = depth
    return state


def _stack(n_sections: int = 3, n: int = 12, *, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    depths = 0.1 * torch.arange(n_sections, dtype=torch.float64)
    return [_section(n + k, float(depth), seed=k, dtype=dtype) for k, depth in enumerate(depths)], depths


def _drift(seed: int, *, planar: bool = False, dtype: torch.dtype = torch.float64) -> Drift:
    drift = Drift(N_COMPS, hidden_dim=6, unet_depth=1, n_neighbors=4, planar=planar).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in drift.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return drift


def _objective(n_sections: int = 3, **settings: object) -> TrajectoryObjective:
    sections, depths = _stack(n_sections)
    return TrajectoryObjective(sections, depths, settings=TrajectorySettings(delta_z=0.05, **settings))


def _carried(drift: Drift, state: Tensor, depths: list[float], *, seed: int, block_id: int) -> Tensor:
    """One section walked on its own across one gap, with the noise that the objective gives it."""
    sigma = torch.tensor([0.01, 0.01, 0.1, 0.1, 0.1], dtype=state.dtype)
    for _, states in walk(
        drift,
        [state],
        [depth_grid(*depths, 0.05)],
        sigma=sigma,
        noise=GaussianNoise(seed),
        block_ids=[block_id],
    ):
        state = states[0]
    return state


def test_joint_loss_equals_gap_by_gap_computation() -> None:
    objective, forward, backward = _objective(), _drift(0), _drift(1)
    loss, numbers = objective.loss(forward, backward, iteration=0, phase=JOINT, noise_seed=3)
    shape = expression = 0.0
    reference = geomloss.SamplesLoss("sinkhorn", p=2, blur=0.05, scaling=0.5, backend="tensorized")
    depths = [0.0, 0.1, 0.2]
    for k, other in [*pairwise(range(3)), *pairwise([2, 1, 0])]:
        drift, block_id = (forward, k) if other > k else (backward, 3 + k)
        carried = _carried(drift, objective.sections[k], [depths[k], depths[other]], seed=3, block_id=block_id).detach()
        shape += reference(carried[:, :3].contiguous(), objective.sections[other][:, :3].contiguous()).item()
        expression += expression_loss(carried, objective.sections[other]).item()
    assert numbers == pytest.approx(
        {"loss": shape + 0.1 * expression, "shape": shape, "expression": expression, "beta": 1.0}
    )
    assert loss.item() == numbers["loss"]


def test_stride_averages_the_losses_met() -> None:
    objective, forward = _objective(stride=2, dual=False, sigma=None), _drift(0)
    _, numbers = objective.loss(forward, None, iteration=0, phase=JOINT, noise_seed=0)
    first, second, third = objective.sections
    grid = torch.tensor([0.0, 0.05, 0.1, 0.15, 0.2], dtype=torch.float64)
    states = [blocks[0].detach() for _, blocks in walk(forward, [first], [grid])]
    (alone,) = [blocks[0].detach() for _, blocks in walk(forward, [second], [grid[2:]])][-1:]
    met = [(states[1], second, 0.5), (states[3], third, 0.5), (alone, third, 1.0)]
    shape = sum(share * sinkhorn_divergence(found[:, :3], there[:, :3]).item() for found, there, share in met)
    expression = sum(share * expression_loss(found, there).item() for found, there, share in met)
    assert numbers["shape"] == pytest.approx(shape)
    assert numbers["expression"] == pytest.approx(expression)


@pytest.mark.parametrize("n_processes", [2, 3, 7])  # for four routes
def test_processes_have_the_loss_of_one_as_their_mean(n_processes: int) -> None:
    sections, depths = _stack()
    drifts = _drift(0), _drift(1)

    def loss(*processes: Processes) -> Tensor:
        settings = TrajectorySettings(delta_z=0.05, stride=2)
        own = [TrajectoryObjective(sections, depths, settings=settings, processes=each) for each in processes]
        values = [each.loss(*drifts, iteration=0, phase=JOINT, noise_seed=3) for each in own]
        assert {frozenset(numbers) for _, numbers in values} == {frozenset(("loss", "beta", "shape", "expression"))}
        return torch.stack([value for value, _ in values]).mean()

    weights = [weight for drift in drifts for weight in drift.parameters()]
    together = loss(*[Processes(rank, n_processes) for rank in range(n_processes)])
    found, wanted = (torch.autograd.grad(value, weights, materialize_grads=True) for value in (together, loss(ALONE)))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_dual_adds_the_backward_direction() -> None:
    forward, backward = _drift(0), _drift(1)
    both = _objective().loss(forward, backward, iteration=0, phase=JOINT, noise_seed=0)[0]
    up = _objective(dual=False).loss(forward, None, iteration=0, phase=JOINT, noise_seed=0)[0]
    assert up.item() < both.item()
    up.backward()
    assert all(parameter.grad is None for parameter in backward.parameters())
    both.backward()
    without = {name for name, weight in backward.named_parameters() if weight.grad is None}
    assert without == {"shape.layers.0.key.bias"}  # alike for all neighbours, so of no effect
    with pytest.raises(ValueError, match="no backward drift"):
        _objective().loss(forward, None, iteration=0, phase=JOINT, noise_seed=0)


def test_noise_is_that_of_the_seed_and_differs_between_directions() -> None:
    objective, drift = _objective(2), _drift(0)
    first, second, other = (
        objective.loss(drift, drift, iteration=0, phase=JOINT, noise_seed=seed)[0].item() for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_beta_and_weights_scale_the_loss() -> None:
    settings = {"beta_start_value": 1.0, "beta_end_value": 0.01, "beta_start_iteration": 2, "beta_n_iterations": 4}
    objective, drift = _objective(**settings, warm_up_rate=0.5, alpha=0.2), _drift(0)
    shape, expression, joint = objective.phases([1, 1, 1])
    arguments = {"noise_seed": 0, "iteration": 0}
    plain = objective.loss(drift, drift, phase=joint, **arguments)[1]
    later, numbers = objective.loss(drift, drift, phase=joint, noise_seed=0, iteration=4)
    assert numbers["beta"] == pytest.approx(0.1)
    assert later.item() == pytest.approx(0.1 * plain["loss"])
    assert plain["loss"] == pytest.approx(plain["shape"] + 0.2 * plain["expression"])
    warm = objective.loss(drift, drift, phase=shape, **arguments)[1]
    assert warm == pytest.approx({"loss": 0.5 * plain["shape"], "beta": 1.0, "shape": plain["shape"]})
    warm = objective.loss(drift, drift, phase=expression, **arguments)[1]
    assert warm == pytest.approx({"loss": 0.5 * plain["expression"], "beta": 1.0, "expression": plain["expression"]})


@pytest.mark.parametrize("phase", [SHAPE, EXPRESSION, JOINT])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradient_equals_finite_differences(phase: Phase, checkpoint: bool) -> None:
    # A wide target holds the box, and with it the schedule of ε, still; a fine schedule makes the gradient exact.
    first, second = _section(12, 0.0, seed=0), _section(14, 0.1, seed=1)
    second[:2, :3] = torch.tensor([[-0.5, -0.5, -0.5], [1.5, 1.5, 1.0]], dtype=torch.float64)
    settings = TrajectorySettings(delta_z=0.05, blur=0.5, scaling=0.99, dual=False, checkpoint=checkpoint)
    objective = TrajectoryObjective([first, second], torch.tensor([0.0, 0.1]), settings=settings)
    drift = _drift(0)
    parameters = list(drift.parameters())
    arguments = {"iteration": 0, "phase": phase, "noise_seed": 0}
    loss, _ = objective.loss(drift, None, **arguments)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    directions = [torch.randn(p.shape, generator=torch.Generator().manual_seed(7), dtype=p.dtype) for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)

    values = []
    with torch.no_grad():
        for step in (1e-5, -2e-5):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
            values.append(objective.loss(drift, None, **arguments)[0].item())
    assert slope.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6 if phase is EXPRESSION else 1e-2)


def test_each_phase_reaches_the_networks_it_should() -> None:
    def reached(phase: Phase, *, freeze: bool) -> set[str]:
        drift = _drift(0)
        objective = _objective(2, dual=False, freeze=freeze)
        objective.loss(drift, None, iteration=0, phase=phase, noise_seed=0)[0].backward()
        return {name.split(".")[0] for name, parameter in drift.named_parameters() if parameter.grad is not None}

    assert reached(SHAPE, freeze=False) == {"shape"}
    assert reached(EXPRESSION, freeze=False) == {"shape", "expression"}
    assert reached(EXPRESSION, freeze=True) == {"expression"}
    assert reached(JOINT, freeze=True) == {"shape", "expression"}


def test_freeze_changes_no_value() -> None:
    drift = _drift(0)
    values = [
        _objective(freeze=freeze).loss(drift, drift, iteration=0, phase=EXPRESSION, noise_seed=0)[0].item()
        for freeze in (False, True)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("planar", [False, True])
def test_training_learns_a_translation(planar: bool) -> None:
    shift = torch.tensor([0.15, -0.1])
    first = _section(20, 0.0, seed=0, dtype=torch.float32)
    second = first.clone()
    second[:, :2] += shift
    second[:, 2] = 0.1
    settings = TrajectorySettings(delta_z=0.05, sigma=(0.01, 0.01, 0.0, 0.01), blur=0.1)
    objective = TrajectoryObjective([first, second], torch.tensor([0.0, 0.1]), settings=settings)
    drifts = [_drift(seed, planar=planar, dtype=torch.float32) for seed in (0, 1)]
    optimizer = torch.optim.NAdam([p for drift in drifts for p in drift.parameters()], lr=0.02)
    history, phase = [], SHAPE if planar else JOINT
    for iteration in range(60):
        loss, numbers = objective.loss(*drifts, iteration=iteration, phase=phase, noise_seed=iteration)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(numbers["loss"])
    assert history[-1] < 0.5 * history[0]
    grid = [depth_grid(0.0, 0.1, 0.05), depth_grid(0.1, 0.0, 0.05)]
    for drift, start, depths, sign in zip(drifts, (first, second), grid, (1, -1), strict=True):
        with torch.no_grad():
            *_, (_, states) = walk(drift, [start], [depths])
        moved = (states[0] - start)[:, :2].mean(0)
        assert ((moved - sign * shift).abs() < 0.05).all()


def test_positions_alone_can_be_carried() -> None:
    sections, depths = _stack(2)
    objective = TrajectoryObjective([section[:, :3] for section in sections], depths)
    drift = Drift(0, hidden_dim=4).double()
    _, numbers = objective.loss(drift, drift, iteration=0, phase=JOINT, noise_seed=0)
    assert set(numbers) == {"loss", "shape", "beta"}


def test_batches_are_tiles_that_can_be_compared() -> None:
    sections, depths = _stack(3, 40)
    sections[2] = sections[2][:7]
    settings = TrajectorySettings(delta_z=0.05, batch_size=15, min_cells=6)
    objective = TrajectoryObjective(sections, depths, settings=settings)
    assert objective.batches() == [None] or len(objective.batches()) >= 3
    first, again, other = (objective.batches(generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
    assert [len(rows[0]) for rows in first] != [len(rows[0]) for rows in other] or not torch.equal(
        first[0][0], other[0][0]
    )
    drift = _drift(0)
    for rows in first:
        loss, _ = objective.loss(drift, drift, iteration=0, phase=JOINT, noise_seed=0, rows=rows)
        assert torch.isfinite(loss)
    nothing = [torch.arange(3)] * 3
    with pytest.raises(ValueError, match="nothing to compare: no two neighbouring sections"):
        objective.loss(drift, drift, iteration=0, phase=JOINT, noise_seed=0, rows=nothing)


def test_small_stacks_are_one_batch() -> None:
    assert _objective().batches() == [None]
    assert _objective(batch_size=1_000).batches() == [None]


def test_a_tile_of_everything_is_everything() -> None:
    objective, drift = _objective(), _drift(0)
    rows = [torch.arange(len(section)) for section in objective.sections]
    whole, tiled = (
        objective.loss(drift, drift, iteration=0, phase=JOINT, noise_seed=0, rows=which)[0].item()
        for which in (None, rows)
    )
    assert whole == tiled


def test_sigma_of_four_or_of_every_dimension() -> None:
    drift = _drift(0)
    values = [
        _objective(2, sigma=sigma).loss(drift, drift, iteration=0, phase=JOINT, noise_seed=0)[0].item()
        for sigma in ((0.01, 0.02, 0.1, 0.3), (0.01, 0.02, 0.1, 0.3, 0.3), None, (0.0, 0.0, 0.0, 0.0))
    ]
    assert values[0] == values[1]
    assert values[2] == values[3] != values[0]


def test_sections_may_be_given_from_the_highest_down() -> None:
    """The forward drift is that along the order given: reversing the order swaps the two directions."""
    sections, depths = _stack()
    settings = TrajectorySettings(delta_z=0.05, sigma=None)
    drifts = [_drift(1), _drift(2)]
    up, down = (
        TrajectoryObjective(parts, grid, settings=settings).loss(*pair, iteration=0, phase=JOINT, noise_seed=0)[0]
        for parts, grid, pair in ((sections, depths, drifts), (sections[::-1], depths.flip(0), drifts[::-1]))
    )
    torch.testing.assert_close(up, down)


def test_wrong_input_is_named() -> None:
    sections, depths = _stack()
    with pytest.raises(ValueError, match="stride must be at least 1"):
        TrajectorySettings(stride=0)
    with pytest.raises(ValueError, match="batch_size at least min_cells"):
        TrajectorySettings(batch_size=3)
    with pytest.raises(ValueError, match="two or more sections"):
        TrajectoryObjective(sections[:1], depths[:1])
    with pytest.raises(ValueError, match="one depth for each"):
        TrajectoryObjective(sections, depths[:2])
    with pytest.raises(ValueError, match="depths must run one way"):
        TrajectoryObjective(sections, depths[[0, 2, 1]])
    with pytest.raises(ValueError, match="same 3 \\+ G columns"):
        TrajectoryObjective([sections[0], sections[1][:, :4], sections[2]], depths)
    with pytest.raises(ValueError, match="sigma must hold 4 numbers"):
        TrajectoryObjective(sections, depths, settings=TrajectorySettings(sigma=(0.1, 0.1)))
