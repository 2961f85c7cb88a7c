from __future__ import annotations

import geomloss
import pytest
import torch
from torch import Tensor

from isost.training import _sinkhorn
from isost.training._sinkhorn import debiased_displacements, sinkhorn_divergence


def _clouds(n: int = 90, m: int = 110, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    y = torch.rand(m, 3, generator=generator, dtype=torch.float64) * 1.3 + 0.1
    a = torch.rand(n, generator=generator, dtype=torch.float64)
    b = torch.rand(m, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_(), a / a.sum(), b / b.sum()


def _disc(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(n, generator=generator, dtype=dtype)
    radius = torch.rand(n, generator=generator, dtype=dtype).sqrt() / 2
    return torch.stack([radius * angle.cos(), radius * angle.sin(), torch.zeros_like(angle)], dim=1)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sinkhorn, "_ENTRIES_ON_CPU", 1_000)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("blur", [0.05, 0.3])
@pytest.mark.parametrize("reach", [None, 0.3])
def test_equals_geomloss(weighted: bool, blur: float, reach: float | None) -> None:
    x, y, a, b = _clouds()
    reference = geomloss.SamplesLoss(
        "sinkhorn", p=2, blur=blur, reach=reach, scaling=0.5, debias=True, backend="tensorized"
    )
    expected = reference(a, x, b, y) if weighted else reference(x, y)
    found = sinkhorn_divergence(x, y, blur=blur, reach=reach, **({"a": a, "b": b} if weighted else {}))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)

    expected_gradients = torch.autograd.grad(expected, [x, y])
    # geomloss's unbalanced gradient counts mass with ρ + ε/2 where the envelope theorem asks for ρ + ε;
    # the test below holds ours against finite differences.
    factor = 1.0 if reach is None else (reach**2 + blur**2) / (reach**2 + blur**2 / 2)
    for gradient, reference_gradient in zip(torch.autograd.grad(found, [x, y]), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, reference_gradient * factor, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("reach", [None, 0.3])
def test_gradient_is_that_of_the_value_at_the_optimum(reach: float | None) -> None:
    x, y, a, b = _clouds(20, 25)
    # Inside the box of y, so that the diameter, and with it the schedule, stays as x moves.
    x = (0.5 * x + 0.4).detach().requires_grad_()
    settings = {"a": a, "b": b, "blur": 0.3, "reach": reach, "scaling": 0.99}
    (gradient,) = torch.autograd.grad(sinkhorn_divergence(x, y, **settings), x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    step = 1e-4 * direction
    with torch.no_grad():
        difference = sinkhorn_divergence(x + step, y, **settings) - sinkhorn_divergence(x - step, y, **settings)
    torch.testing.assert_close((gradient * direction).sum(), difference / 2e-4, rtol=5e-3, atol=0)


def test_divergence_of_a_translated_cloud_is_half_its_squared_length() -> None:
    x, shift = _disc(200), torch.tensor([0.2, -0.1, 0.1], dtype=torch.float64)
    found = sinkhorn_divergence(x, x + shift, scaling=0.9)
    torch.testing.assert_close(found, shift.square().sum() / 2, rtol=1e-4, atol=0)


def test_divergence_does_not_lose_float32_far_from_the_origin() -> None:
    x, y = _disc(100).float(), _disc(120, seed=1).float() * 1.2
    near = sinkhorn_divergence(x, y)
    far = sinkhorn_divergence(x + 1e3, y + 1e3)
    torch.testing.assert_close(far, near, rtol=1e-2, atol=0)


def test_one_point_and_equal_clouds_cost_nothing() -> None:
    point = torch.zeros(1, 3)
    assert sinkhorn_divergence(point, point).item() == 0.0
    cloud = _disc(60)
    assert abs(sinkhorn_divergence(cloud, cloud.clone()).item()) < 1e-12
    assert abs(sinkhorn_divergence(cloud, cloud.clone(), reach=0.1).item()) < 1e-12


def test_clouds_narrower_than_the_blur() -> None:
    x = _disc(30) * 0.01
    expected = geomloss.SamplesLoss("sinkhorn", p=2, blur=0.05, scaling=0.5, backend="tensorized")(x, x * 2)
    torch.testing.assert_close(sinkhorn_divergence(x, x * 2), expected, atol=1e-12, rtol=1e-8)


@pytest.mark.parametrize("coarse_above", [10_000, 100])
def test_displacement_of_a_translated_cloud(coarse_above: int) -> None:
    x, shift = _disc(500), torch.tensor([0.05, -0.03, 0.1], dtype=torch.float64)
    found, _ = debiased_displacements(x, x + shift, reach=None, scaling=0.9, coarse_above=coarse_above)
    torch.testing.assert_close(found, shift.expand_as(x), atol=5e-4, rtol=0)


def test_displacement_of_a_scaled_cloud() -> None:
    x = _disc(1_500)
    found, _ = debiased_displacements(x, 1.1 * x, reach=None, scaling=0.8)
    error = (found - 0.1 * x).norm(dim=1)
    assert error.mean() < 1e-3
    assert error.max() < 4e-3


@pytest.mark.parametrize("reach", [None, 0.1])
@pytest.mark.parametrize("coarse_above", [10_000, 100])
def test_displacement_between_equal_clouds_is_zero(reach: float | None, coarse_above: int) -> None:
    x = _disc(300)
    found, _ = debiased_displacements(x, x.clone(), reach=reach, coarse_above=coarse_above)
    torch.testing.assert_close(found, torch.zeros_like(x), atol=1e-12, rtol=0)


def test_displacement_is_minus_the_balanced_gradient_by_weight() -> None:
    x, y, a, b = _clouds()
    y.requires_grad_()
    by_x, by_y = torch.autograd.grad(sinkhorn_divergence(x, y, a=a, b=b), (x, y))
    up, down = debiased_displacements(x, y, a=a, b=b, reach=None)
    assert not up.requires_grad
    torch.testing.assert_close(up, -by_x / a[:, None], atol=1e-10, rtol=1e-8)
    torch.testing.assert_close(down, -by_y / b[:, None], atol=1e-10, rtol=1e-8)


def test_reach_keeps_far_mass_in_place() -> None:
    x = _disc(200)
    y = torch.cat([x, x + torch.tensor([3.0, 0, 0], dtype=torch.float64)])
    found, _ = debiased_displacements(x, y, reach=0.1)
    assert found.norm(dim=1).max() < 0.01
    assert debiased_displacements(x, y, reach=None)[0].norm(dim=1).max() > 1.0


@pytest.mark.parametrize("reach", [None, 0.1])
def test_cells_stand_for_their_points(reach: float | None) -> None:
    x = _disc(2_000, dtype=torch.float32)
    y = _disc(2_200, seed=1, dtype=torch.float32) * torch.tensor([1.15, 0.95, 1.0])
    exact, _ = debiased_displacements(x, y, reach=reach)
    coarse, _ = debiased_displacements(x, y, reach=reach, coarse_above=100)
    assert (coarse - exact).norm(dim=1).max() < 0.02 * exact.norm(dim=1).max()


def test_cells_keep_weight_and_mean() -> None:
    x = _disc(400)
    weight = torch.rand(400, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight[:50] = 0
    cells, total = _sinkhorn._cells(x, weight, 0.1)
    assert len(cells) < 110
    torch.testing.assert_close(total.sum(), weight.sum())
    torch.testing.assert_close(total @ cells, weight @ x)


def test_zero_weight_is_as_if_absent() -> None:
    x, y, a, b = _clouds()
    a = torch.where(torch.arange(len(a)) < 30, 0.0, a)
    up, down = debiased_displacements(x, y, a=a, b=b)
    without = debiased_displacements(x[30:], y, a=a[30:], b=b)
    torch.testing.assert_close((up[30:], down), without, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blur": 0.0}, "blur and reach must be positive"),
        ({"reach": -1.0}, "blur and reach must be positive"),
        ({"scaling": 1.0}, "scaling within"),
        ({"a": torch.ones(3)}, "a must hold one weight"),
        ({"b": -torch.ones(5)}, "b must hold one weight"),
        ({"x": torch.zeros(0, 3)}, "no points"),
        ({"x": torch.zeros(4, 2)}, "with one d"),
    ],
)
def test_wrong_input_is_named(change: dict, message: str) -> None:
    arguments = {"x": torch.rand(4, 3), "y": torch.rand(5, 3), **change}
    for function in (sinkhorn_divergence, debiased_displacements):
        with pytest.raises(ValueError, match=message):
            function(arguments["x"], arguments["y"], **{k: v for k, v in arguments.items() if k not in "xy"})
