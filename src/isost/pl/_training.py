from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rcParams

from ._layout import place
from ._style import drawn_on, finished

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from isost.model import IsoST

    from ._style import Background

__all__ = ["training"]

_SIZE, _BOX = (6.0, 3.2), (0.7, 0.5, 3.7, 2.4)  # inches
_WIDE_RANGE = 30  # largest over smallest loss, from which the axis is logarithmic


def training(
    model: IsoST, *, background: Background | None = None, ax: Axes | None = None, show: bool | None = None
) -> Axes | None:
    """Draw how the loss and its parts fell while a model was trained.

    Of the objective ``"bridge"``, a dashed line at 1 is what each part, shape and expression, would be of a drift that
    stands still; the loss, their sum, would be 2.

    Parameters
    ----------
    model
        What :func:`isost.tl.fit` returns; its ``history`` is drawn.
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    ax
        Axes to draw into; a new figure is made when None.
    show
        Show the figure now and return nothing. None does what ``scanpy.settings.autoshow`` says, unless `ax` is given.

    Returns
    -------
    :class:`matplotlib.axes.Axes`, or None when shown.

    Raises
    ------
    ValueError
        If the model has no history, or `background` is unknown.

    Examples
    --------
    >>> isost.pl.training(model)
    """
    history = model.history
    if not len(history):
        msg = "the model has no history: it was not trained here, or was saved without one"
        raise ValueError(msg)
    with drawn_on(background):
        axis = ax or place(plt.figure(figsize=_SIZE), _BOX)
        _draw(axis, history)
        if model.settings.objective == "bridge":  # its parts are measured by what they are of a drift that stands still
            still = {"color": rcParams["text.color"], "alpha": 0.5, "linewidth": 0.8, "linestyle": "--"}
            axis.axhline(1, label="each part of\na still drift", **still)
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return None if finished(axis.figure, show, ax=ax) else axis


def _draw(ax: Axes, history: pd.DataFrame) -> None:
    losses = history.drop(columns=["epoch", "phase"]).select_dtypes("number")
    losses = losses.where(losses != 0)  # a part of weight zero says nothing, nor does one that is the whole
    parts = losses.drop(columns="loss").dropna(axis="columns", how="all")
    said = ["loss", *(name for name in parts if not parts[name].equals(losses["loss"]))]
    for name in said:
        ax.plot(history["epoch"], losses[name], label=name, linewidth=2.0 if name == "loss" else 1.0)
    _mark_phases(ax, history)
    low, high = losses[said].min().min(), losses[said].max().max()
    if low > 0 and high > _WIDE_RANGE * low:
        ax.set_yscale("log")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.margins(x=0)
    ax.spines[["right", "top"]].set_visible(False)


def _mark_phases(ax: Axes, history: pd.DataFrame) -> None:
    """Draw a line where a new phase begins, and its name."""
    phases = history["phase"].to_numpy()
    starts = np.flatnonzero(np.r_[True, phases[1:] != phases[:-1]])
    if len(starts) == 1:
        return
    for start in starts:
        at = history["epoch"].iloc[start]
        ax.axvline(at, color=rcParams["text.color"], linewidth=0.6, linestyle=":")
        ax.annotate(
            phases[start],
            (at, 1),
            (3, 2),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            fontsize="small",
        )
