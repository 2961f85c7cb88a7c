from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isost.metrics import LOWER_IS_BETTER, ONE_IS_BEST, RANDOM_BASELINES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["TRUSTED_R", "compare", "trust"]

TRUSTED_R = 0.5  # r_voxel from which a gene is called trustworthy: a quarter of its variance over bins is explained
_TRUSTED_SHARE = 0.9
_UNANIMOUS = 5  # sections that must all say the same to overrule their spread: chance does that once in 16 times
_SPREADS = 2  # of the noise that a difference must exceed, as in a 95 % interval


def compare(metric: str, scores: Mapping[str, NDArray[np.float64]]) -> str:
    """Say in words how isost stands beside the best of the plain baselines.

    The best baseline is the one, ``"self"`` left out, whose mean score is best: lowest for ``energy`` and
    ``d_moran``, highest for the rest, and for ``var_ratio`` and ``n_ratio`` least distant from 1, the distance taken
    in each section and then averaged, so that too many here and too few there do not cancel. A difference counts when
    it exceeds twice its noise, the larger of two: the standard error, over sections, of isost's difference from that
    baseline, and the standard deviation of one draw's mean score, the largest of the baselines that are drawn at
    random (isost is one draw too). The first is left out where there is one section only, and where five or more
    sections all favour the same side: one section with a huge difference must not hide that it is the same in all.

    Parameters
    ----------
    metric
        Name of the score.
    scores
        Method to its score of each draw and section, (draws, sections), input's order of sections the same in all;
        ``"isost"`` among them.

    Returns
    -------
    ``"better than linear by 0.03"``, ``"worse than linear by 0.03"``, ``"on a par with linear (within 0.01)"``, twice
    the noise, or why none of these can be said.
    """
    plain = [name for name in scores if name not in ("isost", "self")]
    if metric == "agree":
        return "not compared: what baselines sample is what they expect"
    if not plain:
        return "not compared: no baseline beside it"
    known = ~np.any([np.isnan(values).any(0) for values in scores.values()], axis=0)
    if not known.any():
        return "not defined: the cells are too scattered to be binned"
    scores = {name: values[:, known] for name, values in scores.items()}
    losses = {name: _loss(metric, values.mean(0)) for name, values in scores.items()}
    best = min(plain, key=lambda name: float(losses[name].mean()))
    gains = losses[best] - losses["isost"]
    gain = float(gains.mean())
    margin = _SPREADS * max(_section_noise(gains), _draw_noise(metric, scores))
    if abs(gain) <= margin:
        return f"on a par with {best} (within {margin:.2g})"
    return f"{'better' if gain > 0 else 'worse'} than {best} by {abs(gain):.2g}"


def trust(morans_i: NDArray[np.float64], r_voxel: NDArray[np.float64]) -> str:
    """Say in words how many genes can be trusted, and by what to foresee it.

    A gene is trustworthy when its `r_voxel` is at least 0.5. Which genes are can be foreseen from their spatial
    pattern: the threshold is the lowest Moran's I such that of the genes that have it or more at least 9 in 10 are
    trustworthy. Below it there are trustworthy genes too, among more that are not.

    Parameters
    ----------
    morans_i
        Moran's I of each gene in the measured sections, (genes,).
    r_voxel
        Score of each gene's generated expression there, (genes,).

    Returns
    -------
    Two clauses.
    """
    trusted = r_voxel >= TRUSTED_R
    said = f"{trusted.sum()} of {len(trusted)} genes can be trusted"
    order = np.argsort(-morans_i, kind="stable")
    share = np.cumsum(trusted[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= _TRUSTED_SHARE)
    if len(enough) == 0:
        return f"{said}; from no Moran's I up are 9 in 10"
    lowest = morans_i[order[enough[-1]]]
    return f"{said}; of the {enough[-1] + 1} with a Moran's I from {lowest:.2g} up, 9 in 10 or more"


def _loss(metric: str, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """How bad a score is; less is better."""
    if metric in ONE_IS_BEST:
        return np.abs(score - 1)
    return score if metric in LOWER_IS_BETTER else -score


def _section_noise(gains: NDArray[np.float64]) -> float:
    unanimous = len(gains) >= _UNANIMOUS and bool((np.sign(gains) == np.sign(gains[0])).all())
    return 0.0 if unanimous or len(gains) == 1 else float(gains.std(ddof=1) / np.sqrt(len(gains)))


def _draw_noise(metric: str, scores: Mapping[str, NDArray[np.float64]]) -> float:
    drawn = [_loss(metric, scores[name]).mean(1) for name in RANDOM_BASELINES if name in scores]
    return max((float(means.std(ddof=1)) for means in drawn), default=0.0)
