from __future__ import annotations

import torch

from isost.sde import euler_maruyama


def test_step_is_drift_times_length_plus_noise() -> None:
    state, drift = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    kick, sigma = torch.tensor([[1.0, 1.0], [-1.0, 2.0]]), torch.tensor([0.5, 0.0])
    torch.testing.assert_close(euler_maruyama(state, drift, 0.1, kick, sigma), torch.tensor([[1.6, 1.9], [2.7, 4.0]]))


def test_length_may_differ_from_point_to_point_and_run_back() -> None:
    state, drift = torch.zeros(2, 3), torch.ones(2, 3)
    out = euler_maruyama(state, drift, torch.tensor([[0.1], [-0.2]]))
    torch.testing.assert_close(out, torch.tensor([[0.1], [-0.2]]).expand(2, 3))


def test_no_noise_without_increment_or_sigma() -> None:
    state, drift, ones = torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 3)
    for out in (euler_maruyama(state, drift, 1.0, ones, None), euler_maruyama(state, drift, 1.0, None, ones[0])):
        torch.testing.assert_close(out, ones)
