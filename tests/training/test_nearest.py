from __future__ import annotations

import pytest
import torch
from torch import Tensor

from isost.training import _nearest
from isost.training._nearest import expression_loss, nearest_measured


def _states(n: int, *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, 3 + 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _reference(carried: Tensor, measured: Tensor) -> Tensor:
    total = carried.new_zeros(())
    for point in carried:
        distances = [(point[:3] - other[:3]).square().sum().item() for other in measured]
        total = total + (point[3:] - measured[distances.index(min(distances)), 3:]).square().sum()
    return total / (len(carried) * (carried.shape[1] - 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_equals_a_plain_loop(dtype: torch.dtype) -> None:
    carried, measured = _states(40, seed=0, dtype=dtype), _states(50, seed=1, dtype=dtype)
    torch.testing.assert_close(expression_loss(carried, measured), _reference(carried, measured))


def test_gradient_equals_finite_differences() -> None:
    carried, measured = (_states(n, seed=n, dtype=torch.float64) for n in (8, 9))
    expression = carried[:, 3:].clone().requires_grad_()

    def loss(values: Tensor) -> Tensor:
        return expression_loss(torch.cat([carried[:, :3], values], dim=1), measured)

    assert torch.autograd.gradcheck(loss, (expression,))


def test_gradient_reaches_expression_only() -> None:
    carried, measured = _states(40, seed=0).requires_grad_(), _states(50, seed=1)
    (gradient,) = torch.autograd.grad(expression_loss(carried, measured), carried)
    nearest = nearest_measured(carried[:, :3], measured[:, :3])
    assert not nearest.requires_grad
    expected = 2 * (carried[:, 3:] - measured[nearest, 3:]) / (40 * 4)
    torch.testing.assert_close(gradient[:, 3:], expected.detach())
    assert gradient[:, :3].abs().max() == 0


def test_blocks_find_what_the_tree_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nearest, "_BLOCK_ENTRIES", 700)
    positions, measured = _states(123, seed=2)[:, :3] + 1e4, _states(77, seed=3)[:, :3] + 1e4
    found = _nearest._search_blocks(positions, measured)
    # Far from 0 float32 makes exact ties: the distance, not the index, is what must agree.
    expected = nearest_measured(positions, measured)
    torch.testing.assert_close(
        (positions.double() - measured[found].double()).norm(dim=1),
        (positions.double() - measured[expected].double()).norm(dim=1),
        rtol=0,
        atol=1e-12,
    )


def test_no_positions_find_nothing() -> None:
    nothing, measured = torch.zeros(0, 3), torch.rand(5, 3)
    assert nearest_measured(nothing, measured).shape == (0,)
    assert _nearest._search_blocks(nothing, measured).shape == (0,)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="no measured point"):
        expression_loss(_states(4, seed=0), _states(0, seed=0))
    with pytest.raises(ValueError, match="7 columns, measured ones 5"):
        expression_loss(_states(4, seed=0), _states(4, seed=0)[:, :5])
