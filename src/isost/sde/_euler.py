from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["euler_maruyama"]


def euler_maruyama(
    state: Tensor,
    drift: Tensor,
    h: Tensor | float,
    noise_increment: Tensor | None = None,
    sigma: Tensor | None = None,
) -> Tensor:
    """One Euler–Maruyama step of du = μ dz + diag(σ) dW: u + μ·h + σ·ΔW.

    Since ΔW ~ N(0, |h|), the noise of a whole gap does not depend on the number of steps. (isoST, bioRxiv
    10.1101/2025.08.15.670472; its published program scales the noise by the training step instead.)

    Parameters
    ----------
    state
        States u (n, 3 + G).
    drift
        Drifts μ = du/dz (n, 3 + G).
    h
        Signed step in z, state units: one number, or one for each point (n, 1); negative walks back.
    noise_increment
        Brownian increments ΔW (n, 3 + G); no noise when None.
    sigma
        Noise σ ≥ 0 of each dimension (3 + G,), state units per root of z; needed with `noise_increment`.

    Returns
    -------
    States (n, 3 + G) one step on.
    """
    moved = state + drift * h
    if noise_increment is None or sigma is None:
        return moved
    return moved + sigma * noise_increment
