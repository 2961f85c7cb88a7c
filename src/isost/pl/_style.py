from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rcParams, rcParamsDefault
from matplotlib.colors import to_rgb
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from scipy.spatial import cKDTree

from isost._nearest import nearest_points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = [
    "Background",
    "add_scale_bar",
    "check_choice",
    "drawn_on",
    "extend",
    "finished",
    "is_dark",
    "is_shown",
    "point_spacing",
    "round_length",
    "rounded",
    "with_unit",
]

Background: TypeAlias = Literal["light", "dark"]


def check_choice(name: str, value: object, choices: object) -> None:
    """Refuse a value that is none of a Literal's."""
    if value not in get_args(choices):
        msg = f"{name}={value!r} is unknown; choose one of {get_args(choices)}"
        raise ValueError(msg)


@contextmanager
def drawn_on(background: Background | None) -> Iterator[None]:
    """Draw on a light or dark background; None leaves it to matplotlib's style in force."""
    if background is None:
        yield
        return
    check_choice("background", background, Background)
    colors = plt.style.library["dark_background"]
    with plt.rc_context(colors if background == "dark" else {key: rcParamsDefault[key] for key in colors}):
        yield


def finished(figure: Any, show: bool | None, *, ax: object = None) -> bool:
    """Show a figure now if that is wanted, and say whether it was; one with axes of the caller's is left to them."""
    if ax is None:
        figure.draw_without_rendering()  # ticks take the colours in force only when they are drawn
    is_wanted = is_shown(False if show is None and ax is not None else show)
    if is_wanted:
        plt.show()
    return is_wanted


def is_dark() -> bool:
    """Whether figures are drawn on a dark background now."""
    return float(np.mean(to_rgb(rcParams["figure.facecolor"]))) < 0.5


def with_unit(value: str, unit: str | None, *, brackets: bool = False) -> str:
    """Write ``"50 µm"``, or with brackets ``"x (µm)"``; the bare value where no unit is known."""
    if not unit:
        return value
    return f"{value} ({unit})" if brackets else f"{value} {unit}"


def round_length(longest: float) -> float:
    """Find the largest of 1, 2, 5 times a power of ten that is not above `longest`."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(power * max(step for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))


def point_spacing(points: NDArray[np.float64]) -> float:
    """Take the median over points of the mean distance to the four nearest, input units; 0 for a point alone."""
    if len(points) < 2:
        return 0.0
    distances, _ = nearest_points(cKDTree(points), points, 5, first=2)
    return float(np.median(distances.mean(axis=1)))


def rounded(value: float, *, largest: float) -> float:
    """Round to the decimals that four digits of `largest` have."""
    return round(value, 3 - int(np.floor(np.log10(largest or 1.0)))) + 0.0


def extend(values: NDArray[np.float64], low: float, high: float) -> str:
    """Say which ends of a colour bar get an arrow because values lie beyond; NaN lies nowhere."""
    below, above = bool((values < low).any()), bool((values > high).any())
    return {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}[below, above]


def add_scale_bar(ax: Axes, *, width: float, unit: str | None) -> None:
    """Draw a bar of a round length, at most a third of `width` (input units), under the axes' lower left corner."""
    length = round_length(width / 3)
    bar = AnchoredSizeBar(
        ax.transData,
        length,
        with_unit(f"{length:g}", unit),
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes,
        pad=0,
        borderpad=0.5,
        sep=3,
        frameon=False,
        size_vertical=width * 0.008,
        color=rcParams["text.color"],
        fontproperties={"size": "small"},
    )
    ax.add_artist(bar)


def is_shown(show: bool | None) -> bool:
    """Decide whether to show at once: as asked or, for None, as scanpy's ``settings.autoshow`` says."""
    if show is not None:
        return show
    import scanpy as sc

    return bool(sc.settings.autoshow)
