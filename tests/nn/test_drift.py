from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

import isost
from isost.nn import Drift, nearest_neighbors

Cloud = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def _own_random_state() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def state_of(position: Tensor, n_comps: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.cat([position, torch.rand(len(position), n_comps, dtype=torch.float64, generator=generator)], dim=1)


def test_joins_shape_and_expression_over_one_graph(cloud: Cloud) -> None:
    position, table = cloud(30, 20)
    state = state_of(position)
    drift = Drift(4, hidden_dim=8, n_heads=2, unet_depth=3).double()
    out = drift(state, sizes=[30, 20])
    torch.testing.assert_close(out[:, :3], drift.shape(position, table))
    torch.testing.assert_close(out[:, 3:], drift.expression(state, table, sizes=[30, 20]))
    torch.testing.assert_close(drift(state, sizes=[30, 20], table=table), out)


def test_table_is_rebuilt_from_the_positions_with_its_own_number_of_neighbours(cloud: Cloud) -> None:
    position, _ = cloud(30)
    state = state_of(position)
    drift = Drift(4, hidden_dim=8, n_neighbors=3).double()
    torch.testing.assert_close(drift(state), drift(state, table=nearest_neighbors(position, 3)))


@pytest.mark.parametrize("planar", [False, True])
def test_part_left_out_stands_still(cloud: Cloud, planar: bool) -> None:
    state = state_of(cloud(30)[0])
    drift = Drift(4, hidden_dim=8, planar=planar).double()
    both = drift(state)
    shape, expression = drift(state, parts="shape"), drift(state, parts="expression")
    torch.testing.assert_close(shape[:, :3], both[:, :3])
    assert (shape[:, 3:] == 0).all()
    torch.testing.assert_close(expression[:, 3:], both[:, 3:])
    assert (expression[:, :2] == 0).all()
    assert (expression[:, 2] == planar).all()


def test_planar_drift_moves_z_at_unit_speed(cloud: Cloud) -> None:
    state = state_of(cloud(30)[0])
    drift = Drift(4, hidden_dim=8, planar=True).double()
    assert drift.shape.layers[-1].skip.out_features == 2
    assert drift(state).shape == (30, 7)
    assert (drift(state)[:, 2] == 1).all()


def test_without_components_there_is_shape_alone(cloud: Cloud) -> None:
    position, table = cloud(30)
    drift = Drift(0, hidden_dim=8).double()
    assert drift.expression is None
    torch.testing.assert_close(drift(position), drift.shape(position, table))


def test_frozen_part_still_passes_gradients_on(cloud: Cloud) -> None:
    state = state_of(cloud(30)[0]).requires_grad_()
    drift = Drift(4, hidden_dim=8).double()
    drift.shape.requires_grad_(False)
    drift(state).square().sum().backward()
    assert all(parameter.grad is None for parameter in drift.shape.parameters())
    assert all(parameter.grad is not None for parameter in drift.expression.parameters())
    assert (state.grad != 0).all()


def test_gradients_equal_finite_differences(cloud: Cloud) -> None:
    position, table = cloud(9, n_neighbors=3)
    drift = Drift(2, hidden_dim=4).double()
    state = state_of(position, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda state: drift(state, table=table), (state,))


def test_columns_of_the_state_are_checked() -> None:
    with pytest.raises(ValueError, match=r"shape \(30, 8\), but this drift needs \(n, 7\)"):
        Drift(4, hidden_dim=8)(torch.zeros(30, 8))


@pytest.mark.parametrize("parts", ["both", "shape", "expression"])
def test_in_bfloat16_the_drift_is_about_the_same(
    parts: Literal["both", "shape", "expression"], monkeypatch: pytest.MonkeyPatch
) -> None:
    drift, state = Drift(4, hidden_dim=32), torch.rand(60, 7)

    def found() -> tuple[Tensor, Tensor]:
        drift.zero_grad()
        out = drift(state, parts=parts)
        out.square().mean().backward()
        return out, torch.cat([weight.grad.flatten() for weight in drift.parameters() if weight.grad is not None])

    wanted = found()
    monkeypatch.setattr(isost.settings, "precision", "bfloat16")
    for fine, rough in zip(wanted, found(), strict=True):
        assert rough.dtype == torch.float32
        assert 0 < (rough - fine).abs().max() < 0.05 * fine.abs().max()
