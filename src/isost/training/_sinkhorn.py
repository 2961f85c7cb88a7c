"""Sinkhorn divergence and the displacement it implies, in memory linear in the number of points.

Notation: clouds x (n, d) with weights a and y (m, d) with weights b, cost C(x, y) = ½|x − y|², temperature ε = blur².
Every step is a soft minimum over the other cloud, softmin_i = −ε log Σ_j exp(h_j − C_ij / ε), taken over blocks of rows
so that the n × m matrix never exists whole.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["debiased_displacements", "sinkhorn_divergence"]

# Entries of the cost matrix held at a time: few enough that they stay in cache; on a GPU enough to fill it.
_ENTRIES_ON_CPU = 2**18
_ENTRIES_ON_GPU = 2**24
_COARSE_ABOVE = 1_500  # points of one cloud above which the displacements' potentials are solved on cells
_CELLS_PER_BLUR = 2  # a cell's own variance, (blur/2)²/12, stays below a fortieth of the blur's


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    blur: float = 0.05,
    reach: float | None = None,
    scaling: float = 0.5,
) -> Tensor:
    """Debiased Sinkhorn divergence between two weighted clouds of points.

    S(x, y) = OT(x, y) − ½ OT(x, x) − ½ OT(y, y) with cost ½|x − y|² and entropy ε = blur². ε is lowered from the
    squared diameter of both clouds to blur² by factors scaling²; the gradient flows through one last extrapolation step
    alone, which at the optimum is the exact gradient (envelope theorem).

    In value equal to ``geomloss.SamplesLoss("sinkhorn", p=2)``, and in gradient where `reach` is None; with a `reach`
    geomloss 0.3 gives (ρ + ε/2)/(ρ + ε) of the gradient, ρ = reach².

    Parameters
    ----------
    x, y
        Positions (n, d) and (m, d). Gradients flow to whichever asks for them, once (no second derivatives).
    a, b
        Weights (n,) and (m,), not negative; uniform with sum 1 when None. No gradient flows to them.
    blur
        Length below which differences are not seen, in units of the positions.
    reach
        Length beyond which mass is made or destroyed rather than moved (unbalanced transport); None moves all of it.
    scaling
        Ratio of successive lengths √ε, between 0 and 1; closer to 1 is slower and more accurate.

    Returns
    -------
    A scalar, of the positions' dtype.

    Raises
    ------
    ValueError
        If shapes do not fit, a cloud is empty, or a parameter is out of range.

    References
    ----------
    Feydy, Geometric data analysis, beyond convolutions, PhD thesis 2020, chapter 3 (balanced); Séjourné et al. 2019,
    arXiv:1910.12958 (unbalanced). The shape loss of isoST, doi:10.1101/2025.08.15.670472.
    """
    _check_settings(blur=blur, reach=reach, scaling=scaling)
    a, b = _weights(x, a, name="a"), _weights(y, b, name="b")
    x, y, diameter = _centred(x, y)
    log_a, log_b = a.log(), b.log()
    eps, rho = blur**2, None if reach is None else reach**2
    xd, yd = x.detach(), y.detach()
    duals = _solve(xd, yd, log_a, log_b, schedule=_schedule(diameter, blur, scaling), rho=rho)

    damping = _damping(eps, rho)
    f_xy = damping * _softmin(x, yd, log_b + duals.g_xy / eps, eps)
    f_xx = damping * _softmin(x, xd, log_a + duals.f_xx / eps, eps)
    g_xy = damping * _softmin(y, xd, log_a + duals.f_xy / eps, eps)
    g_yy = damping * _softmin(y, yd, log_b + duals.g_yy / eps, eps)
    return _dual_value(a, f_xy, f_xx, eps, rho) + _dual_value(b, g_xy, g_yy, eps, rho)


@torch.no_grad()
def debiased_displacements(
    x: Tensor,
    y: Tensor,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    blur: float = 0.05,
    reach: float | None = 0.1,
    scaling: float = 0.5,
    coarse_above: int = _COARSE_ABOVE,
) -> tuple[Tensor, Tensor]:
    """Displacement of every point of x towards y, and of every point of y towards x: the debiased entropic maps.

    T_xy(x) − T_xx(x), where T is the mean of the points that the entropic plan couples to x. Subtracting the map of x
    onto itself removes the shrinkage towards the middle that entropy brings, so that equal clouds do not move. In
    balanced transport this is minus the gradient of `sinkhorn_divergence` by x, divided by the weights.

    With a `reach`, mass made or destroyed at the rim is cheaper than moving all of a broad cloud: an even
    translation by half the reach is then followed only near the rim.

    A cloud of more than `coarse_above` points is gathered onto weighted cells of side blur/2 for the potentials; the
    maps are then taken at every original point.

    Parameters
    ----------
    x, y
        Positions (n, d) and (m, d).
    a, b
        Weights (n,) and (m,), not negative; uniform with sum 1 when None.
    blur, reach, scaling
        As in `sinkhorn_divergence`.
    coarse_above
        Number of points above which a cloud is gathered onto cells.

    Returns
    -------
    Displacements (n, d) and (m, d), of the positions' dtype and units, without gradient.

    Raises
    ------
    ValueError
        If shapes do not fit, a cloud is empty, or a parameter is out of range.

    References
    ----------
    Pooladian, Cuturi and Niles-Weed, Debiaser beware: pitfalls of centering regularized transport maps, ICML 2022.
    """
    _check_settings(blur=blur, reach=reach, scaling=scaling)
    a, b = _weights(x, a, name="a"), _weights(y, b, name="b")
    x, y, diameter = _centred(x, y)
    eps, rho = blur**2, None if reach is None else reach**2
    side = blur / _CELLS_PER_BLUR
    cells_x, a = _cells(x, a, side) if len(x) > coarse_above else (x, a)
    cells_y, b = _cells(y, b, side) if len(y) > coarse_above else (y, b)
    log_a, log_b = a.log(), b.log()
    duals = _solve(cells_x, cells_y, log_a, log_b, schedule=_schedule(diameter, blur, scaling), rho=rho)
    up = _coupled_mean(x, cells_y, log_b + duals.g_xy / eps, eps)
    down = _coupled_mean(y, cells_x, log_a + duals.f_xy / eps, eps)
    up -= _coupled_mean(x, cells_x, log_a + duals.f_xx / eps, eps)
    down -= _coupled_mean(y, cells_y, log_b + duals.g_yy / eps, eps)
    return up, down


class _Duals(NamedTuple):
    """Dual potentials of the three transport problems; those of x with itself, and y with itself, are symmetric."""

    f_xy: Tensor  # (n,)
    g_xy: Tensor  # (m,)
    f_xx: Tensor  # (n,)
    g_yy: Tensor  # (m,)


@torch.no_grad()
def _solve(x: Tensor, y: Tensor, log_a: Tensor, log_b: Tensor, *, schedule: list[float], rho: float | None) -> _Duals:
    """Lower ε along the schedule; both sides step at once and average with where they were, which keeps them even."""
    damping = _damping(schedule[0], rho)
    f_xy = damping * _softmin(x, y, log_b, schedule[0])
    g_xy = damping * _softmin(y, x, log_a, schedule[0])
    f_xx = damping * _softmin(x, x, log_a, schedule[0])
    g_yy = damping * _softmin(y, y, log_b, schedule[0])
    for eps in schedule:
        damping = _damping(eps, rho)
        f_next = damping * _softmin(x, y, log_b + g_xy / eps, eps)
        g_next = damping * _softmin(y, x, log_a + f_xy / eps, eps)
        f_xy, g_xy = (f_xy + f_next) / 2, (g_xy + g_next) / 2
        f_xx = (f_xx + damping * _softmin(x, x, log_a + f_xx / eps, eps)) / 2
        g_yy = (g_yy + damping * _softmin(y, y, log_b + g_yy / eps, eps)) / 2
    return _Duals(f_xy, g_xy, f_xx, g_yy)


def _dual_value(weight: Tensor, cross: Tensor, own: Tensor, eps: float, rho: float | None) -> Tensor:
    """One side's share of the divergence, from its potential across and its potential with itself."""
    if rho is None:
        return (weight * (cross - own)).sum()
    # exp(−f/ρ) is the share of a point's mass that is moved (Séjourné 2019, proposition 12). The value counts it with
    # ρ + ε/2; its gradient must count it with ρ + ε, to undo the damping ρ/(ρ + ε) of the extrapolation step.
    mass = (weight * ((-own / rho).exp() - (-cross / rho).exp())).sum()
    return (rho + eps) * mass - eps / 2 * mass.detach()


def _damping(eps: float, rho: float | None) -> float:
    return 1.0 if rho is None else rho / (rho + eps)


def _schedule(diameter: float, blur: float, scaling: float) -> list[float]:
    """Temperatures from diameter² to blur², the first twice: a whole first step follows the blind start."""
    if diameter == 0.0:
        return [blur**2]
    n_lengths = max(0, math.ceil(math.log(blur / diameter) / math.log(scaling)))
    lengths = [diameter, *(diameter * scaling**k for k in range(n_lengths)), blur]
    return [length**2 for length in lengths]


class _Softmin(torch.autograd.Function):
    """Soft minimum of the cost plus potential over y; the gradient by x recomputes the blocks it needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, h: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, y, h)
        ctx.eps = eps
        out = x.new_empty(len(x))
        for rows, logits in _logits(x, y, h, eps):
            out[rows] = torch.logsumexp(logits, dim=1)
        return x.square().sum(1) / 2 - eps * out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, y, h = ctx.saved_tensors
        return grad[:, None] * (x - _coupled_mean(x, y, h, ctx.eps)), None, None, None


def _softmin(x: Tensor, y: Tensor, h: Tensor, eps: float) -> Tensor:
    out: Tensor = _Softmin.apply(x, y, h, eps)
    return out


def _coupled_mean(x: Tensor, y: Tensor, h: Tensor, eps: float) -> Tensor:
    """Mean of y under the softmax that `_softmin` takes, for every row of x: the barycentric projection."""
    out = torch.empty_like(x)
    for rows, logits in _logits(x, y, h, eps):
        out[rows] = torch.softmax(logits, dim=1) @ y
    return out


def _logits(x: Tensor, y: Tensor, h: Tensor, eps: float) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of h_j − C_ij/ε, without the share −½|x_i|²/ε that a row has in common."""
    bias = h - y.square().sum(1) / (2 * eps)
    columns = y.T / eps
    n_rows = max(1, (_ENTRIES_ON_CPU if x.device.type == "cpu" else _ENTRIES_ON_GPU) // len(y))
    for start in range(0, len(x), n_rows):
        rows = slice(start, start + n_rows)
        yield rows, torch.addmm(bias, x[rows], columns)


def _cells(x: Tensor, weight: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Gather points on the occupied cells of a grid: weighted mean positions and summed weights."""
    index = torch.floor((x - x.amin(0)) / side).long()
    cells, owner = index.unique(dim=0, return_inverse=True)
    total = weight.new_zeros(len(cells)).index_add_(0, owner, weight)
    mean = x.new_zeros(len(cells), x.shape[1]).index_add_(0, owner, weight[:, None] * x)
    occupied = total > 0
    return mean[occupied] / total[occupied, None], total[occupied]


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """Both clouds about the middle of their common box, and the box's diagonal: far from 0 float32 loses distances."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        msg = f"x and y must be (n, d) and (m, d) with one d, got {tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(msg)
    with torch.no_grad():
        low = torch.minimum(x.amin(0), y.amin(0))
        high = torch.maximum(x.amax(0), y.amax(0))
        middle, diameter = (low + high) / 2, float((high - low).norm())
    return x - middle, y - middle, diameter


def _weights(points: Tensor, weights: Tensor | None, *, name: str) -> Tensor:
    if len(points) == 0:
        msg = f"the cloud weighted by {name} has no points"
        raise ValueError(msg)
    if weights is None:
        return points.new_full((len(points),), 1 / len(points)).detach()
    if weights.shape != (len(points),) or bool((weights < 0).any()) or not bool((weights > 0).any()):
        msg = (
            f"{name} must hold one weight, not negative and not all zero, for each of {len(points)} points, "
            f"got shape {tuple(weights.shape)}"
        )
        raise ValueError(msg)
    return weights.detach().to(points)


def _check_settings(*, blur: float, reach: float | None, scaling: float) -> None:
    if not blur > 0 or not (reach is None or reach > 0) or not 0 < scaling < 1:
        msg = f"blur and reach must be positive and scaling within (0, 1), got {blur=}, {reach=}, {scaling=}"
        raise ValueError(msg)
