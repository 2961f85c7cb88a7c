from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from isost.nn import Drift, from_published
from isost.sde import GaussianNoise, carry, depth_grid, step_count, walk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATE = -1.5  # du = RATE · u dz + NOISE dW: additive noise, and a solution known in closed form
NOISE = 0.8
FINEST = 128


class BrownianPath:
    """A Brownian path known at the finest steps; a coarse increment is the sum of the fine ones it spans."""

    def __init__(self, fine: Tensor, n_steps: int) -> None:
        self.spans = fine.view(n_steps, -1, *fine.shape[1:]).sum(1)

    def increment(
        self, block: int, step: int, shape: tuple[int, ...], *, h: float, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        return self.spans[step - 1]


def linear(state: Tensor, *, sizes: Sequence[int]) -> Tensor:
    return RATE * state


def smooth(state: Tensor, *, sizes: Sequence[int]) -> Tensor:
    """A drift that sees each block's own mean, so that a wrong division into blocks would show."""
    means = [block.mean(0).expand_as(block) for block in state.split(list(sizes))]
    return torch.sin(3 * state) - torch.cat(means)


def still(state: Tensor, *, sizes: Sequence[int]) -> Tensor:
    return torch.zeros_like(state)


def random_blocks(*sizes: int, n_dims: int = 5, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(size, n_dims, dtype=torch.float64, generator=generator) for size in sizes]


def small_drift(**kwargs: object) -> Drift:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Drift(2, hidden_dim=4, n_neighbors=3, **kwargs).double()


def exact_paths(n_paths: int) -> tuple[Tensor, Tensor, Tensor]:
    """Start, exact end over unit depth, and the Brownian increments (FINEST, n, 3) that lead there.

    Over a step d the pair (ΔW, I = ∫ exp(RATE (d − s)) dW_s) is normal with var ΔW = d,
    var I = (e^{2 RATE d} − 1) / 2 RATE and covariance (e^{RATE d} − 1) / RATE; the solution moves by
    u ← e^{RATE d} u + NOISE · I.
    """
    generator = torch.Generator().manual_seed(1)
    d = 1 / FINEST
    covariance = math.expm1(RATE * d) / RATE
    spread = math.expm1(2 * RATE * d) / (2 * RATE)
    first, second = torch.randn(2, FINEST, n_paths, 3, dtype=torch.float64, generator=generator)
    increments = math.sqrt(d) * first
    integrals = covariance / math.sqrt(d) * first + math.sqrt(spread - covariance**2 / d) * second
    start = torch.full((n_paths, 3), 1.5, dtype=torch.float64)
    end = start
    for integral in integrals:
        end = math.exp(RATE * d) * end + NOISE * integral
    return start, end, increments


def order(step_counts: Sequence[int], errors: Sequence[float]) -> float:
    """Slope of log error over log step length."""
    return -np.polyfit(np.log(step_counts), np.log(errors), 1)[0]


def grid(n_steps: int, start: float = 0.0, stop: float = 1.0) -> Tensor:
    return depth_grid(start, stop, abs(stop - start) / n_steps)


def test_strong_and_weak_order_on_additive_noise_are_one() -> None:
    start, end, increments = exact_paths(2000)
    sigma = torch.full((3,), NOISE)
    counts, strong, mean, variance = [4, 8, 16, 32, 64], [], [], []
    for n_steps in counts:
        noise = BrownianPath(increments, n_steps)
        (arrived,) = carry(linear, [start], [grid(n_steps)], sigma=sigma, noise=noise)
        strong.append((arrived - end).abs().mean().item())
        mean.append((arrived.mean() - end.mean()).abs().item())
        variance.append((arrived.var() - end.var()).abs().item())
    assert strong[-1] < 0.02
    assert order(counts, strong) == pytest.approx(1, abs=0.1)
    assert order(counts, mean) == pytest.approx(1, abs=0.1)
    assert order(counts, variance) == pytest.approx(1, abs=0.15)


def test_order_without_noise_is_one() -> None:
    (start,) = random_blocks(4)
    counts = [8, 16, 32, 64, 128]
    errors = [(carry(linear, [start], [grid(n)])[0] - math.exp(RATE) * start).abs().max().item() for n in counts]
    assert order(counts, errors) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("n_steps", [1, 5, 20])
@pytest.mark.parametrize("stop", [0.1, -0.1])
def test_variance_over_a_gap_does_not_depend_on_the_number_of_steps(n_steps: int, stop: float) -> None:
    start, sigma = torch.zeros(4000, 3, dtype=torch.float64), torch.tensor([0.5, 2.0, 0.0])
    (arrived,) = carry(still, [start], [grid(n_steps, stop=stop)], sigma=sigma, noise=GaussianNoise(n_steps))
    expected = 0.1 * sigma.double().square()
    assert (arrived.mean(0).abs() <= 4 * (expected / 4000).sqrt()).all()
    assert ((arrived.var(0) - expected).abs() <= 4 * expected * math.sqrt(2 / 4000)).all()


def test_walking_back_undoes_walking_ahead_as_steps_shrink() -> None:
    (start,) = random_blocks(30)
    counts = [64, 128, 256, 512]
    errors = []
    for n_steps in counts:
        ahead = carry(smooth, [start], [grid(n_steps)])
        (back,) = carry(smooth, ahead, [grid(n_steps).flip(0)])
        errors.append((back - start).abs().max().item())
    assert errors[-1] < 0.05
    assert order(counts, errors) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("planar", [False, True])
def test_blocks_together_walk_as_each_would_alone(planar: bool) -> None:
    blocks = random_blocks(12, 7, 20, 5)
    depths = [grid(3, 0, 0.1), grid(1, 0.1, 0.25), grid(5, 0.5, 0.2), torch.tensor([0.5])]
    drift, sigma = small_drift(planar=planar), torch.full((5,), 0.3)
    together: dict[int, list[Tensor]] = {block: [] for block in range(4)}
    steps = []
    for step, states in walk(drift, blocks, depths, sigma=sigma, noise=GaussianNoise(0), block_ids=[4, 9, 2, 7]):
        steps.append((step, sorted(states)))
        for block, state in states.items():
            together[block].append(state)
    assert steps == [(1, [0, 1, 2]), (2, [0, 2]), (3, [0, 2]), (4, [2]), (5, [2])]
    for block, name in enumerate([4, 9, 2, 7]):
        alone = walk(drift, [blocks[block]], [depths[block]], sigma=sigma, noise=GaussianNoise(0), block_ids=[name])
        own = [states[0] for _, states in alone]
        assert len(own) == len(together[block]) == len(depths[block]) - 1
        for ours, theirs in zip(together[block], own, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_drift_sees_the_blocks_that_still_walk() -> None:
    seen = []

    def watched(state: Tensor, *, sizes: Sequence[int]) -> Tensor:
        seen.append((len(state), list(sizes)))
        return torch.zeros_like(state)

    carry(watched, random_blocks(3, 4), [grid(1), grid(2)])
    assert seen == [(7, [3, 4]), (4, [4])]


def test_carry_gives_the_last_states_and_leaves_standing_blocks() -> None:
    blocks = random_blocks(6, 9)
    depths = [grid(4), torch.tensor([0.3])]
    arrived = carry(smooth, blocks, depths)
    *_, (step, states) = walk(smooth, blocks, depths)
    assert step == 4
    assert torch.equal(arrived[0], states[0])
    assert arrived[1] is blocks[1]
    assert carry(smooth, [], []) == []


def test_planar_depths_are_those_of_the_grid_exactly() -> None:
    blocks = [block.float() for block in random_blocks(12, 9)]
    depths = [grid(7, 0.1, 0.2), grid(3, 0.9, 0.7)]
    drift = small_drift(planar=True).float()
    for step, states in walk(drift, blocks, depths, sigma=torch.ones(5), noise=GaussianNoise(0)):
        for block, state in states.items():
            assert (state[:, 2] == depths[block][step].float()).all()


def test_planar_can_be_told_where_the_drift_does_not_say() -> None:
    drift, (block,) = small_drift(planar=True), random_blocks(9)
    shape_alone = partial(drift, parts="shape")
    (arrived,) = carry(shape_alone, [block], [grid(3, 0.1, 0.2)], planar=True)
    assert (arrived[:, 2] == 0.2).all()
    assert torch.equal(arrived[:, 3:], block[:, 3:])


def test_gradients_equal_finite_differences() -> None:
    drift, sigma = small_drift(), torch.full((5,), 0.1, dtype=torch.float64, requires_grad=True)
    depths = [grid(3, 0, 0.1), grid(2, 0.3, 0.2)]

    def arrived(first: Tensor, second: Tensor, sigma: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
        values = {name: value + shift for name, value in drift.named_parameters()}

        def shifted(state: Tensor, *, sizes: Sequence[int]) -> Tensor:
            return torch.func.functional_call(drift, values, (state,), {"sizes": sizes})

        return tuple(carry(shifted, [first, second], depths, sigma=sigma, noise=GaussianNoise(0)))

    blocks = [block.requires_grad_() for block in random_blocks(8, 6)]
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(arrived, (*blocks, sigma, shift), fast_mode=True)


def test_checkpoints_change_the_calls_but_not_the_gradient() -> None:
    drift, depths = small_drift(), [grid(4, 0, 0.1), grid(2, 0.3, 0.2)]
    calls = 0

    def counted(state: Tensor, *, sizes: Sequence[int]) -> Tensor:
        nonlocal calls
        calls += 1
        return drift(state, sizes=sizes)

    gradients = []
    for checkpoint, expected in ((False, 4), (True, 8)):
        calls = 0
        blocks = [block.requires_grad_() for block in random_blocks(8, 6)]
        arrived = carry(counted, blocks, depths, sigma=torch.ones(5), noise=GaussianNoise(0), checkpoint=checkpoint)
        total = sum(state.square().sum() for state in arrived)
        gradients.append(
            torch.autograd.grad(total, [*blocks, *drift.parameters()], allow_unused=True, materialize_grads=True)
        )
        assert calls == expected
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_states_keep_their_precision() -> None:
    blocks = [block.float() for block in random_blocks(4)]
    sigma = torch.ones(5, dtype=torch.float64)
    assert carry(linear, blocks, [grid(2)], sigma=sigma, noise=GaussianNoise(0))[0].dtype == torch.float32


@pytest.mark.data
@pytest.mark.parametrize(("direction", "entry", "sign"), [("forward", "f_joint", 1), ("backward", "g_joint", -1)])
def test_published_weights_walk_to_the_recorded_states(data_dir: Path, direction: str, entry: str, sign: int) -> None:
    folder = data_dir / "published"
    checkpoint = torch.load(folder / "mouse_brain_model.pt", weights_only=True, map_location="cpu")
    with torch.random.fork_rng():
        drift = Drift(50).requires_grad_(False)
    drift.load_state_dict(from_published(checkpoint[entry]))
    with np.load(folder / "mouse_brain_drift.npz") as recorded:
        points, expected = torch.from_numpy(recorded["points"]), torch.from_numpy(recorded[f"{direction}_euler5"])
        delta_z = float(recorded["delta_d"])
    depths = depth_grid(0.4, 0.4 + sign * 5 * delta_z, delta_z)
    torch.testing.assert_close(carry(drift, [points], [depths])[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("gap", "delta_z", "minimum", "expected"),
    [(0.1, 0.02, 0, 5), (-0.1, 0.02, 0, 5), (2.5, 1, 0, 2), (3.5, 1, 0, 4), (0.4, 1, 0, 0), (0.4, 1, 1, 1)],
)
def test_steps_are_counted_by_pythons_round(gap: float, delta_z: float, minimum: int, expected: int) -> None:
    assert step_count(gap, delta_z, minimum=minimum) == expected


@pytest.mark.parametrize("delta_z", [0.0, -1.0, math.nan])
def test_step_must_be_positive(delta_z: float) -> None:
    with pytest.raises(ValueError, match="delta_z must be positive"):
        step_count(1.0, delta_z)


@pytest.mark.parametrize(("start", "stop"), [(0.1, 0.7), (0.7, 0.1)])
def test_depths_are_even_and_end_exactly(start: float, stop: float) -> None:
    depths = depth_grid(start, stop, 0.07)
    assert depths.dtype == torch.float64
    assert (depths[0].item(), depths[-1].item()) == (start, stop)
    torch.testing.assert_close(depths.diff(), torch.full((9,), (stop - start) / 9, dtype=torch.float64))


def test_narrow_gap_has_one_step_or_none() -> None:
    assert depth_grid(0.1, 0.1001, 0.07).tolist() == [0.1, 0.1001]
    assert depth_grid(0.1, 0.1001, 0.07, minimum=0).tolist() == [0.1]


def test_what_does_not_fit_is_refused_at_the_call() -> None:
    blocks = random_blocks(4, 5)
    with pytest.raises(ValueError, match="2 blocks, 1 depths and no block_ids"):
        walk(linear, blocks, [grid(2)])
    with pytest.raises(ValueError, match="2 blocks, 2 depths and 1 block_ids"):
        walk(linear, blocks, [grid(2), grid(2)], block_ids=[0])
    with pytest.raises(ValueError, match="sigma needs noise"):
        walk(linear, blocks, [grid(2), grid(2)], sigma=torch.ones(5))
    with pytest.raises(ValueError, match="noise needs sigma"):
        walk(linear, blocks, [grid(2), grid(2)], noise=GaussianNoise(0))
    with pytest.raises(ValueError, match="block 1 has no depths"):
        walk(linear, blocks, [grid(2), torch.zeros(0)])
