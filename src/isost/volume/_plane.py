from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["plane_axes", "read_plane"]


def read_plane(plane: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read a plane as it is given: a point and a normal.

    Parameters
    ----------
    plane
        Two of three numbers each.

    Returns
    -------
    The point (3,), and the normal (3,) at length 1.

    Raises
    ------
    ValueError
        If it is anything else, not finite, or the normal is zero.
    """
    try:
        pair = np.asarray(plane, dtype=np.float64)
    except (TypeError, ValueError):  # of rows of different lengths, for example
        pair = np.empty(0)
    if pair.shape != (2, 3) or not np.isfinite(pair).all() or not pair[1].any():
        msg = f"a plane is a point and a normal of three numbers each, the normal not all zero, got {plane!r}"
        raise ValueError(msg)
    return pair[0], pair[1] / np.linalg.norm(pair[1])


def plane_axes(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find two axes of a plane, those nearest to x and y, or to x and z, or to y and z.

    Parameters
    ----------
    normal
        Of the plane (3,), of length 1.

    Returns
    -------
    The axes as columns (3, 2), of length 1 and at right angles. Both grow with the axis of space they are nearest to,
    so that no picture lies upside down.
    """
    helper = np.eye(3)[0] if abs(normal[0]) < 0.9 else np.eye(3)[1]
    first = helper - (helper @ normal) * normal
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    second *= np.sign(second[np.abs(second).argmax()])
    return np.column_stack([first, second])
