from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from isost.sde import GaussianNoise


def increment(
    noise: GaussianNoise,
    block: int = 0,
    step: int = 1,
    *,
    n: int = 2000,
    h: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    return noise.increment(block, step, (n, 5), h=h, dtype=dtype, device=torch.device("cpu"))


@pytest.mark.parametrize("h", [0.02, -0.02, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_increments_are_normal_with_variance_of_the_step(h: float, dtype: torch.dtype) -> None:
    drawn = increment(GaussianNoise(0), h=h, dtype=dtype)
    assert drawn.dtype == dtype
    assert stats.kstest(drawn.ravel().numpy(), stats.norm(scale=np.sqrt(abs(h))).cdf).pvalue > 0.01
    # Mean and variance of 10,000 draws lie within four standard errors.
    assert abs(drawn.mean()) < 4 * np.sqrt(abs(h) / 10_000)
    assert abs(drawn.var() / abs(h) - 1) < 4 * np.sqrt(2 / 10_000)


def test_seeds_blocks_and_steps_have_independent_streams() -> None:
    streams = [
        increment(GaussianNoise(seed), block, step).ravel()
        for seed in (0, 1, 2**32, 2**70)
        for block in (0, 1, 2)
        for step in (1, 2, 3)
    ]
    correlation = np.corrcoef(np.stack(streams)) - np.eye(len(streams))
    assert abs(correlation).max() < 5 / np.sqrt(10_000)


def test_dimensions_are_independent() -> None:
    correlation = np.corrcoef(increment(GaussianNoise(3), n=10_000).T) - np.eye(5)
    assert abs(correlation).max() < 5 / np.sqrt(10_000)


def test_order_of_asking_changes_nothing() -> None:
    one, other = GaussianNoise(7), GaussianNoise(7)
    ahead = [increment(one, block, step) for block in (0, 1) for step in (1, 2)]
    behind = [increment(other, block, step) for block in (1, 0) for step in (2, 1)]
    assert all(torch.equal(*pair) for pair in zip(ahead, reversed(behind), strict=True))


def test_global_random_state_is_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    increment(GaussianNoise(0))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        GaussianNoise(-1)


def test_a_walk_of_the_first_dimensions_gets_their_increments_in_a_walk_of_all() -> None:
    kws: dict[str, Any] = {"h": 0.5, "dtype": torch.float32, "device": torch.device("cpu")}
    whole = GaussianNoise(1).increment(2, 3, (7, 5), **kws)
    assert torch.equal(GaussianNoise(1, n_dims=5).increment(2, 3, (7, 3), **kws), whole[:, :3])
