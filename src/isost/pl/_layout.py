from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ._color import Classes

__all__ = ["BAR_SPACE", "add_color_bar", "add_legend", "inches_per_unit", "legend_space", "panel_axes", "place"]

# Lengths in inches. Panels keep the tissue's aspect, so only fixed margins give every panel the same scale.
_LONG_SIDE, _MARGIN, _HEAD, _FOOT, _GAP = 2.3, 0.15, 0.45, 0.3, 0.2
_BAR, _BAR_LENGTH, BAR_SPACE = 0.12, 1.6, 1.0
_LEGEND_ROW, _LEGEND_CHARACTER, _LEGEND_MARK = 0.19, 0.075, 0.4


def place(figure: Figure, box: tuple[float, float, float, float], projection: str | None = None) -> Axes:
    """Add axes to the figure at a box (left, bottom, width, height)."""
    width, height = figure.get_size_inches()
    left, bottom, w, h = box
    axes: Axes = figure.add_axes((left / width, bottom / height, w / width, h / height), projection=projection)
    return axes


def panel_axes(n: int, *, ncols: int, extent: NDArray[np.float64], legend: Classes | None, bar: bool) -> list[Axes]:
    """Make a figure of `n` panels for a tissue of `extent` (width, height), with room on the right to explain it."""
    ncols = min(n, ncols)
    nrows = -(-n // ncols)
    width, height = _LONG_SIDE * extent / extent.max()
    row = height + _HEAD + _FOOT
    side = BAR_SPACE if bar else 0.0
    if legend is not None:
        side = legend_space(legend, nrows * row)
    figure = plt.figure(figsize=(2 * _MARGIN + ncols * (width + _GAP) - _GAP + side, nrows * row))
    boxes = [
        (_MARGIN + (i % ncols) * (width + _GAP), (nrows - 1 - i // ncols) * row + _FOOT, width, height)
        for i in range(n)
    ]
    return [place(figure, box) for box in boxes]


def _figure_of(ax: Axes) -> Figure:
    figure: Figure = ax.get_figure(root=True)  # type: ignore[assignment]
    return figure


def _size(ax: Axes) -> NDArray[np.float64]:
    box = ax.get_position(original=True)
    return np.asarray(_figure_of(ax).get_size_inches() * (box.width, box.height), dtype=np.float64)


def inches_per_unit(ax: Axes, extent: NDArray[np.float64]) -> float:
    """Measure on the page one unit of the data, when `extent` fills the axes at equal aspect."""
    return float((_size(ax) / extent).min())


def add_color_bar(
    axes: Sequence[Axes],
    *,
    cmap: str,
    scale: tuple[float, float],
    label: str,
    ends: str,
    beside: bool,
    gap: float = 0.2,
) -> None:
    """Add one colour bar for all axes: in the space left free on the right or, if `beside`, taken from the axes."""
    mappable = ScalarMappable(Normalize(*scale), cmap)
    figure = _figure_of(axes[0])
    if beside:
        bar = figure.colorbar(mappable, ax=list(axes), extend=ends, shrink=0.7)
    else:
        width, height = figure.get_size_inches()
        length = min(float(_size(axes[0])[1]), _BAR_LENGTH)
        right = max(ax.get_position().x1 for ax in axes) * width
        top = axes[0].get_position().y1 * height
        bar = figure.colorbar(mappable, cax=place(figure, (right + gap, top - length, _BAR, length)), extend=ends)
    bar.outline.set_visible(False)
    bar.ax.set_title(label, fontsize="medium", loc="left")
    bar.ax.tick_params(labelsize="small", length=2)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def add_legend(axes: Sequence[Axes], classes: Classes, *, beside: bool, gap: float = 0.0) -> None:
    """Add one legend for all axes: in the space left free on the right or, if `beside`, next to the last axes."""
    marks: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 6, "markeredgewidth": 0}
    handles = [
        Line2D([], [], color=color, label=label, **marks)
        for label, color in zip(classes.categories, classes.colors, strict=True)
    ]
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
    return max(1, -(-len(classes.categories) // rows))


def legend_space(classes: Classes, height: float) -> float:
    """Estimate the width of a legend beside a figure of `height`."""
    return _legend_columns(classes, height) * _legend_column_width(classes)


def _legend_column_width(classes: Classes) -> float:
    longest = max((len(category) for category in [*classes.categories, classes.name]), default=0)
    return _LEGEND_MARK + _LEGEND_CHARACTER * longest
