from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rcParams

from isost._checks import check_at_least
from isost.metrics import LOWER_IS_BETTER, ONE_IS_BEST

from ._layout import place
from ._style import drawn_on, finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._style import Background

__all__ = ["evaluation"]

_OURS, _OURS_COLOR, _OTHER_COLOR = "isost", "#d62728", "#8a8a8a"
# inches
_WIDTH, _ROW, _HEAD, _FOOT, _NAMES, _GAP = 2.1, 0.24, 0.6, 0.95, 0.75, 0.3
_CHARACTERS = 34  # of the verdict, that fit below a panel


def evaluation(
    scores: pd.DataFrame,
    *,
    metrics: str | Sequence[str] | None = None,
    ncols: int = 4,
    background: Background | None = None,
    show: bool | None = None,
) -> Figure | None:
    """Draw the scores of sections left out beside those of the baselines, a panel for each metric.

    A large dot is the mean over the sections left out, a small one a section; the verdict stands below.

    Parameters
    ----------
    scores
        What :func:`isost.tl.evaluate` returns.
    metrics
        Metrics to draw; None draws all eight of :func:`isost.metrics.score`.
    ncols
        Most panels in a row.
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    show
        Show the figure now and return nothing. None does what ``scanpy.settings.autoshow`` says.

    Returns
    -------
    :class:`matplotlib.figure.Figure`, or None when shown.

    Raises
    ------
    KeyError
        If a metric is not in the table.
    TypeError
        If `scores` is no table of :func:`isost.tl.evaluate`.
    ValueError
        If `metrics` is empty, `ncols` below 1, or `background` unknown.

    Examples
    --------
    >>> isost.pl.evaluation(isost.tl.evaluate(adatas))
    """
    check_at_least(1, ncols=ncols)
    if list(getattr(scores, "index", scores).names) != ["section", "gene", "metric"]:
        msg = "scores is no table of isost.tl.evaluate: its rows are not (section, gene, metric)"
        raise TypeError(msg)
    every = scores.xs("all", level="gene")
    overall = every.xs("mean", level="section")
    wanted = list(overall.index) if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    if not wanted:
        msg = "metrics is an empty list; name a metric"
        raise ValueError(msg)
    missing = [metric for metric in wanted if metric not in overall.index]
    if missing:
        msg = f"metrics={missing} are not in the table, which has {list(overall.index)}"
        raise KeyError(msg)
    methods = [name for name in scores.columns if name != "verdict"]
    each = every.drop(index="mean", level="section")
    with drawn_on(background):
        panels = _panels(len(wanted), n_methods=len(methods), ncols=min(ncols, len(wanted)))
        for i, (ax, metric) in enumerate(zip(panels, wanted, strict=True)):
            by_section = each.xs(metric, level="metric")[methods].to_numpy(dtype=np.float64)
            means = overall.loc[metric, methods].to_numpy(dtype=np.float64)
            _draw_metric(ax, metric, methods, means, by_section, named=i % ncols == 0)
            said = fill(str(overall.loc[metric, "verdict"]), _CHARACTERS)
            below = -0.42 * _FOOT / (_ROW * len(methods))
            ax.text(0, below, said, transform=ax.transAxes, fontsize="x-small", va="top")
        figure = panels[0].figure
        return None if finished(figure, show) else figure  # type: ignore[return-value]


def _panels(n: int, *, n_methods: int, ncols: int) -> list[Axes]:
    nrows = -(-n // ncols)
    row = _HEAD + n_methods * _ROW + _FOOT
    figure = plt.figure(figsize=(_NAMES + ncols * (_WIDTH + _GAP), nrows * row))
    return [
        place(
            figure,
            (
                _NAMES + (i % ncols) * (_WIDTH + _GAP),
                (nrows - 1 - i // ncols) * row + _FOOT,
                _WIDTH,
                n_methods * _ROW,
            ),
        )
        for i in range(n)
    ]


def _draw_metric(ax: Axes, metric: str, methods: list[str], means: Any, by_section: Any, *, named: bool) -> None:
    rows = np.arange(len(methods))
    colors = [_OURS_COLOR if method == _OURS else _OTHER_COLOR for method in methods]
    ax.axvline(means[methods.index(_OURS)], color=_OURS_COLOR, linewidth=0.6, linestyle=":")
    ax.scatter(by_section.ravel(), np.tile(rows, len(by_section)), c=colors * len(by_section), s=8, alpha=0.5)
    # what no method is expected to reach is drawn hollow
    faces = ["none" if method == "self" else color for method, color in zip(methods, colors, strict=True)]
    ax.scatter(means, rows, c=faces, edgecolors=colors, s=40, zorder=3)
    ax.set(ylim=(len(methods) - 0.5, -0.5), yticks=rows, yticklabels=methods if named else [])
    ax.tick_params(labelsize="small", length=2)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.grid(axis="y", color=rcParams["text.color"], alpha=0.12)
    ax.set_axisbelow(True)
    ax.set_title(metric, loc="left", fontsize="medium", pad=15)
    ax.annotate(_best(metric), (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize="x-small")


def _best(metric: str) -> str:
    if metric in ONE_IS_BEST:
        return "1 is best"
    return "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
