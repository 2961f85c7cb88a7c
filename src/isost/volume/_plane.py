from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["plane_axes"]


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
