from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ._section import Section
from ._spatial import local_linear, mean_of_others, neighbor_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BASELINES", "RANDOM_BASELINES", "BaselineName", "baseline"]

BaselineName = Literal["copy", "dissolve", "linear", "local", "self"]

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
"""All baselines, simplest first."""

RANDOM_BASELINES: tuple[BaselineName, ...] = ("dissolve", "linear", "local")
"""Those that draw cells at random; average their scores over several seeds."""


def baseline(
    name: BaselineName,
    below: Section,
    above: Section,
    *,
    z: float,
    seed: int = 0,
    measured: Section | None = None,
) -> Section:
    """Generate a section between two measured ones in one of five simple ways.

    - ``"copy"``: the nearer of the two, the lower at equal distance.
    - ``"dissolve"``: cells drawn from both, each kept with probability 1 − t below and t above.
    - ``"linear"``: at dissolve's places, the means of the 10 nearest cells of both, weighted 1 − t and t.
    - ``"local"``: as linear, by local linear regression over 60 cells of each.
    - ``"self"``: the measured section itself with, as expectation, the mean of each cell's 10 nearest others: a level
      that no method is expected to reach.

    Parameters
    ----------
    name
        Which.
    below, above
        The measured sections on either side, with their depths.
    z
        Depth to generate at, input units; t is its fraction of the way from `below` to `above`.
    seed
        Seed of the drawing of cells.
    measured
        The section measured at this depth; for ``"self"`` only.

    Returns
    -------
    Section at depth `z`.

    Raises
    ------
    ValueError
        If the name is unknown, `z` is not between the sections, a depth is missing, or ``"self"`` lacks `measured`.
    """
    t = _fraction(below, above, z)
    if name == "copy":
        nearer = below if t <= 0.5 else above
        return Section(nearer.positions, nearer.expression, z=z)
    if name == "self":
        if measured is None:
            msg = "baseline 'self' is the measured section; pass it as measured="
            raise ValueError(msg)
        smooth = mean_of_others(measured.positions, measured.expression, n_neighbors=10)
        return Section(measured.positions, measured.expression, smooth, z=z)
    if name not in RANDOM_BASELINES:
        msg = f"unknown baseline {name!r}; one of {', '.join(BASELINES)}"
        raise ValueError(msg)
    places, cells = _dissolved(below, above, t, seed)
    if name == "dissolve":
        return Section(places, cells, z=z)
    estimate = neighbor_mean if name == "linear" else local_linear
    from_below = estimate(below.positions, below.expression, places)
    from_above = estimate(above.positions, above.expression, places)
    return Section(places, (1 - t) * from_below + t * from_above, z=z)


def _fraction(below: Section, above: Section, z: float) -> float:
    if below.z is None or above.z is None:
        msg = "a baseline needs the depth of both sections; make them with Section(..., z=depth)"
        raise ValueError(msg)
    if not below.z <= z <= above.z or below.z == above.z:
        msg = f"depth {z} is not between the sections at {below.z} and {above.z}"
        raise ValueError(msg)
    return (z - below.z) / (above.z - below.z)


def _dissolved(below: Section, above: Section, t: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places and expression of the cells drawn from both sections."""
    rng = np.random.default_rng(seed)
    from_below = rng.random(below.n_cells) < 1 - t
    from_above = rng.random(above.n_cells) < t
    places = np.concatenate([below.positions[from_below], above.positions[from_above]])
    return places, np.concatenate([below.expression[from_below], above.expression[from_above]])
