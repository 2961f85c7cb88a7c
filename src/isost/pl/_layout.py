from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ._color import Classes
from ._style import extend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ._color import Coloring

__all__ = ["explain", "explanation_space", "inches_per_unit", "panel_axes", "place", "size_of"]

# Lengths in inches. Panels keep the tissue's aspect, so only fixed margins give every panel the same scale.
_LONG_SIDE, _MARGIN, _HEAD, _FOOT, _GAP = 2.3, 0.15, 0.45, 0.3, 0.2
_BAR, _BAR_LENGTH, _BAR_GAP, _BAR_TITLE, _BAR_SPACE = 0.12, 1.6, 0.2, 0.4, 1.0
_LEGEND_ROW, _LEGEND_CHARACTER, _LEGEND_MARK = 0.19, 0.075, 0.4


def place(figure: Figure, box: tuple[float, float, float, float], projection: str | None = None) -> Axes:
    """Add axes to the figure at a box (left, bottom, width, height)."""
    width, height = figure.get_size_inches()
    left, bottom, w, h = box
    axes: Axes = figure.add_axes((left / width, bottom / height, w / width, h / height), projection=projection)
    return axes


def panel_axes(
    n: int,
    *,
    ncols: int,
    extent: NDArray[np.float64],
    colorings: Sequence[Coloring],
    long_side: float = _LONG_SIDE,
    head: float = _HEAD,
    foot: float = _FOOT,
) -> list[Axes]:
    """Make a figure of `n` panels for a tissue of `extent` (width, height), with room on the right to explain it."""
    nrows = -(-n // ncols)
    ncols = -(-n // nrows)  # rows of about equal length
    width, height = long_side * extent / extent.max()
    row = height + head + foot
    side = explanation_space(colorings, nrows * row)
    figure = plt.figure(figsize=(2 * _MARGIN + ncols * (width + _GAP) - _GAP + side, nrows * row))
    boxes = [
        (_MARGIN + (i % ncols) * (width + _GAP), (nrows - 1 - i // ncols) * row + foot, width, height) for i in range(n)
    ]
    return [place(figure, box) for box in boxes]


def _figure_of(ax: Axes) -> Figure:
    figure: Figure = ax.get_figure(root=True)  # type: ignore[assignment]
    return figure


def size_of(ax: Axes) -> NDArray[np.float64]:
    """Measure width and height of the axes (2,), inches."""
    box = ax.get_position(original=True)
    return np.asarray(_figure_of(ax).get_size_inches() * (box.width, box.height), dtype=np.float64)


def inches_per_unit(ax: Axes, extent: NDArray[np.float64]) -> float:
    """Measure on the page one unit of the data, when `extent` fills the axes at equal aspect."""
    return float((size_of(ax) / extent).min())


def explain(axes: Sequence[Axes], colorings: Sequence[Coloring], *, beside: bool = False, gap: float = 0.0) -> None:
    """Say what the colours of all axes mean, by a legend or by a colour bar for each quantity.

    In the space left free on the right, `gap` away, or if `beside` in space taken from the axes.
    """
    for i, coloring in enumerate(colorings):
        if isinstance(coloring.shades, Classes):
            _add_legend(axes, coloring.shades, beside=beside, gap=gap)
        elif beside:
            _bar(_figure_of(axes[0]), coloring, ax=list(axes), shrink=0.7)
        else:
            _add_color_bar(axes, coloring, slot=(i, len(colorings)), gap=gap)


def explanation_space(colorings: Sequence[Coloring], height: float) -> float:
    """Estimate the width of what explains the colours beside a figure of `height`."""
    if not colorings:
        return 0.0
    shades = colorings[0].shades
    return _legend_space(shades, height) if isinstance(shades, Classes) else _BAR_SPACE


def _add_color_bar(axes: Sequence[Axes], coloring: Coloring, *, slot: tuple[int, int], gap: float) -> None:
    figure = _figure_of(axes[0])
    width, height = figure.get_size_inches()
    i, n = slot
    top = axes[0].get_position().y1 * height
    row = min(_BAR_LENGTH + _BAR_TITLE, (top + _BAR_TITLE) / n) if n > 1 else 0.0
    length = row - _BAR_TITLE if n > 1 else min(float(size_of(axes[0])[1]), _BAR_LENGTH)
    left = max(ax.get_position().x1 for ax in axes) * width + gap + _BAR_GAP
    box = (left, top - i * row - length, _BAR, length)
    _bar(figure, coloring, cax=place(figure, box))


def _bar(figure: Figure, coloring: Coloring, **where: Any) -> None:
    mappable = ScalarMappable(Normalize(*coloring.scale), coloring.cmap)
    bar = figure.colorbar(mappable, extend=extend(coloring.values, *coloring.scale), **where)
    bar.outline.set_visible(False)
    bar.ax.set_title(coloring.shades.name, fontsize="medium", loc="left")
    bar.ax.tick_params(labelsize="small", length=2)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def _add_legend(axes: Sequence[Axes], classes: Classes, *, beside: bool, gap: float) -> None:
    marks: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 6, "markeredgewidth": 0}
    handles = [Line2D([], [], color=color, label=label, **marks) for label, color in classes.key.items()]
    figure = _figure_of(axes[0])
    columns = _legend_columns(classes, figure.get_size_inches()[1])
    look: dict[str, Any] = {
        "title": classes.name,
        "frameon": False,
        "fontsize": "small",
        "ncols": columns,
        "alignment": "left",
    }
    if beside:
        axes[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), **look)
    else:
        right = max(ax.get_position().x1 for ax in axes) + gap / figure.get_size_inches()[0]
        top = axes[0].get_position().y1 + 0.75 * _HEAD / figure.get_size_inches()[1]
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(right, top), borderaxespad=0.4, **look)


def _legend_columns(classes: Classes, height: float) -> int:
    rows = max(1, int((height - _HEAD) / _LEGEND_ROW) - 1)
    return max(1, -(-len(classes.key) // rows))


def _legend_space(classes: Classes, height: float) -> float:
    longest = max((len(category) for category in [*classes.key, classes.name]), default=0)
    return _legend_columns(classes, height) * (_LEGEND_MARK + _LEGEND_CHARACTER * longest)
