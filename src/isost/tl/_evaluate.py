from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from isost._checks import check_at_least
from isost._keys import MEAN, SECTION, SPATIAL, UNS
from isost._logging import counted, logger, step
from isost._settings import settings
from isost.io import split_sections
from isost.metrics import BASELINES, RANDOM_BASELINES, Section, baseline, per_gene, score
from isost.pp import (
    Stack,
    as_sections,
    check,
    positions,
    read_expression,
    section_depths,
    shared_genes,
    slice_stack,
    tell,
)

from ._fit import fit
from ._inputs import dense, is_stack
from ._section import section
from ._verdict import TRUSTED_R, compare, trust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from isost.metrics import BaselineName

__all__ = ["evaluate"]

_OVER_SECTIONS = "mean"  # in place of a section's name
_OVER_GENES = "all"  # in place of a gene's
_METRICS = ("morans_i", "r_cell", "r_voxel", "r_density", "energy", "d_moran", "var_ratio", "n_ratio", "agree")
_N_DRAWS = 5  # of every baseline that draws cells at random


def evaluate(
    adatas: AnnData | Sequence[AnnData] | Mapping[str, AnnData],
    *,
    hold_out: int | str | Sequence[int | str] | None = None,
    baselines: Sequence[BaselineName] = BASELINES,
    n_genes: int = 30,
    seed: int = 0,
    stack_kws: Mapping[str, Any] | None = None,
    fit_kws: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Score generated sections against measured ones that were left out, beside simple baselines.

    A model is fitted without the held-out sections, these are generated at their depths, and compared with what was
    measured there. Nothing of a held-out section, not even its genes' means, enters the fit.

    Parameters
    ----------
    adatas
        Sections in any form that :func:`isost.pp.slice_stack` takes, or what it returned. Not changed.
    hold_out
        By default every section but the first and the last is left out in turn, one fit for each. Names of sections,
        or their numbers in z order counted from 0, are left out together in one fit.
    baselines
        What to hold the scores against, see :func:`isost.metrics.baseline`. Those that draw cells at random are
        averaged over 5 draws.
    n_genes
        Number of genes for the scores of expression: those of the highest Moran's I in the held-out section.
    seed
        Seed of fits, generated sections and baselines.
    stack_kws, fit_kws
        Passed to :func:`isost.pp.slice_stack` and :func:`isost.tl.fit`.
    progress
        Whether to show a progress bar; `isost.settings.progress` when None.

    Returns
    -------
    One table with a row for each score, indexed by ``section``, ``gene`` and ``metric``, and a column for each method:
    ``"isost"``, then the baselines. ``"self"`` is a level that no method is expected to reach. Where to look:

    ``scores.loc["mean", "all"]``
        Means over the held-out sections, the eight scores of :func:`isost.metrics.score`.
    ``scores.loc["<section>", "all"]``
        The same for one held-out section; ``scores.xs("all", level="gene")`` has all of them.
    ``scores.loc["mean", "<gene>"]``
        Scores of :func:`isost.metrics.per_gene`, means over the held-out sections, ``morans_i`` being that of the
        measured section; ``scores.loc["mean"].xs("r_voxel", level="metric")`` has one of them for all genes.

    The last column, ``"verdict"``, says in words how isost stands beside the best baseline (``"self"`` left out):
    better, worse, or on a par where the difference is within twice its noise. Noise is the larger of the standard
    error of the difference over held-out sections (unless five or more all favour the same side) and the standard
    deviation of a random baseline's mean score over draws; ``var_ratio`` and ``n_ratio`` are judged by their mean
    distance from 1. At ``r_voxel`` it also says how many genes can be trusted: a gene
    is trustworthy when its own r_voxel is at least 0.5 (the rows of genes say ``"trust"`` or ``"do not trust"``), and
    the Moran's I is given from which 9 in 10 genes are. The verdict is logged as well.

    Raises
    ------
    TypeError
        If something other than AnnData is given, or `fit` or `slice_stack` do not know a keyword.
    KeyError
        If no section has a name in `hold_out`, or coordinates, depths or genes are not where they were said to be.
    ValueError
        If the sections are bad input (see :func:`isost.pp.slice_stack`), there are fewer than three, a section to hold
        out is the first or the last, a baseline is unknown, or ``fit_kws`` has a folder for checkpoints.

    Notes
    -----
    Every fit takes as long as :func:`isost.tl.fit` does on all sections. All genes are scored; with many thousands,
    name those that matter by ``stack_kws={"genes": ...}``. With one section held out the verdict does not know how
    much scores differ between sections.

    Examples
    --------
    >>> scores = isost.tl.evaluate(adatas, hold_out=[1, 3])
    >>> scores.loc["mean", "all"]
    """
    fit_kws = dict(fit_kws or {})
    _check(baselines, n_genes=n_genes, seed=seed, fit_kws=fit_kws)
    given = _Given(adatas, stack_kws)
    folds = given.folds(hold_out)
    given.tell(stacklevel=2)
    progress = settings.progress if progress is None else progress
    scores = _Scores(given.genes, n_genes=n_genes)
    n_held = sum(map(len, folds))
    with step("evaluate") as notes, tqdm(total=2 * n_held, disable=not progress, desc="evaluate") as bar:
        # Baselines come first: what cannot be scored then fails before minutes of training, not after them.
        for fold in folds:
            for k in fold:
                _score_baselines(scores, given, k, fold, baselines, seed=seed)
                bar.update()
        for fold in folds:
            stack = given.stack_without(fold)
            model = fit(stack, **({"seed": seed, "progress": progress and len(folds) == 1} | fit_kws))
            for k in fold:
                made = section(stack, model=model, z=given.depths[k], seed=seed)
                scores.add("isost", given.names[k], [_as_section(made, given.genes)], given.section(k))
                bar.update()
        table = scores.table(["isost", *baselines])
        notes.append(f"{counted(n_held, 'section')} held out in {counted(len(folds), 'fit')}")
    for metric, words in table["verdict"].xs((_OVER_SECTIONS, _OVER_GENES)).items():
        logger.info("%s: %s", metric, words)
    return table


def _check(baselines: Sequence[str], *, n_genes: int, seed: int, fit_kws: Mapping[str, Any]) -> None:
    unknown = [name for name in baselines if name not in BASELINES]
    if isinstance(baselines, str) or unknown or len(set(baselines)) < len(baselines):
        msg = f"baselines must be a list of some of {', '.join(BASELINES)}, each once, but is {baselines!r}"
        raise ValueError(msg)
    check_at_least(1, n_genes=n_genes)
    check_at_least(0, seed=seed)
    if fit_kws.get("checkpoint_dir") is not None:
        msg = "fit_kws['checkpoint_dir'] may hold a model that has seen the held-out sections; leave it out"
        raise ValueError(msg)


class _Given:
    """The caller's sections in z order, read as plain arrays when asked for.

    Attributes
    ----------
    names
        Of the sections, in z order.
    depths
        Input units.
    genes
        Those that all sections share.
    """

    def __init__(
        self, adatas: AnnData | Sequence[AnnData] | Mapping[str, AnnData], stack_kws: Mapping[str, Any] | None
    ) -> None:
        self._kws = dict(stack_kws or {})
        if is_stack(adatas):
            adatas = self._take_apart(adatas)
        sections = as_sections(adatas, section_key=self._kws.get("section_key", SECTION))
        self._spatial_key = self._kws.get("spatial_key", SPATIAL)
        for name, part in sections.items():
            positions(name, part, spatial_key=self._spatial_key)
        depths = section_depths(
            sections, z=self._kws.pop("z", None), z_key=self._kws.get("z_key", "z"), spatial_key=self._spatial_key
        )
        self.names = sorted(depths, key=depths.__getitem__)
        self.depths = [depths[name] for name in self.names]
        self._sections = {name: sections[name] for name in self.names}
        self.genes = shared_genes(self._sections, genes=self._kws.get("genes"))
        for what, label, taken in (
            ("section", _OVER_SECTIONS, _OVER_SECTIONS in self.names),
            ("gene", _OVER_GENES, _OVER_GENES in self.genes),
        ):
            if taken:
                msg = f"a {what} is called {label!r}, as the rows of the table over all of them are; rename it"
                raise ValueError(msg)

    def _take_apart(self, stack: AnnData) -> dict[str, AnnData]:
        """Sections of a stack; the next stack is then prepared as this one was."""
        if self._kws:
            msg = f"stack_kws={self._kws!r} has no effect on a stack that is already prepared; pass the sections"
            raise ValueError(msg)
        view = Stack.from_anndata(stack)
        params = stack.uns[UNS]["params"]
        self._kws = {
            "section_key": str(params["section_key"]),
            "n_comps": int(params["n_comps"]),
            "seed": int(params["seed"]),
            "check": False,
            "z": dict(zip(view.names, view.z.tolist(), strict=True)),
        }
        return split_sections(stack, section_key=self._kws["section_key"])

    def tell(self, *, stacklevel: int) -> None:
        """Warn of what is found in the sections: once, not again for every fit."""
        if self._kws.pop("check", True):
            where = {key: value for key, value in self._kws.items() if key not in ("n_comps", "seed")}
            depths = dict(zip(self.names, self.depths, strict=True))
            report = check(self._sections, z=depths, **where)
            # errors are raised where they arise
            tell(report[report["severity"] != "error"].itertuples(), stacklevel=stacklevel + 1)

    def folds(self, hold_out: int | str | Sequence[int | str] | None) -> list[list[int]]:
        """Numbers of the sections to leave out, a list for each fit."""
        if len(self.names) < 3:
            msg = f"at least three sections are needed to leave one out between others, but got {self.names}"
            raise ValueError(msg)
        if hold_out is None:
            return [[k] for k in range(1, len(self.names) - 1)]
        wanted = [hold_out] if isinstance(hold_out, str | int | np.integer) else list(hold_out)
        held = sorted(self._number(one) for one in wanted)
        if not held or len(set(held)) < len(held):
            msg = f"hold_out={hold_out!r} must name at least one section, and each once"
            raise ValueError(msg)
        return [held]

    def _number(self, wanted: int | str) -> int:
        inner = self.names[1:-1]
        if isinstance(wanted, str) and wanted not in self.names:
            msg = f"hold_out names a section {wanted!r} that is not there; choose from {inner}"
            raise KeyError(msg)
        k = self.names.index(wanted) if isinstance(wanted, str) else int(wanted)
        if not 0 <= k < len(self.names):
            msg = f"hold_out has section number {k}, but they are numbered 0 to {len(self.names) - 1} in z order"
            raise ValueError(msg)
        if k in (0, len(self.names) - 1):
            where = "first" if k == 0 else "last"
            msg = (
                f"section {self.names[k]!r} is the {where} in z order and cannot be held out: sections are needed "
                f"below and above; choose from {inner}"
            )
            raise ValueError(msg)
        return k

    def section(self, k: int) -> Section:
        """Measured cells of one section."""
        name, part = self.names[k], self._sections[self.names[k]]
        values = read_expression(name, part, self.genes, layer=self._kws.get("layer"))
        return Section(positions(name, part, spatial_key=self._spatial_key), dense(values), z=self.depths[k])

    def stack_without(self, held: Sequence[int]) -> AnnData:
        """Prepare the sections not held out as a stack."""
        kept = [k for k in range(len(self.names)) if k not in held]
        return slice_stack(
            {self.names[k]: self._sections[self.names[k]] for k in kept},
            z={self.names[k]: self.depths[k] for k in kept},
            check=False,
            **self._kws,
        )


def _score_baselines(
    scores: _Scores, given: _Given, k: int, held: Sequence[int], names: Sequence[BaselineName], *, seed: int
) -> None:
    kept = [i for i in range(len(given.names)) if i not in held]
    below = given.section(max(i for i in kept if i < k))
    above = given.section(min(i for i in kept if i > k))
    measured = given.section(k)
    for name in names:
        draws = _N_DRAWS if name in RANDOM_BASELINES else 1
        made = [
            baseline(name, below, above, z=given.depths[k], seed=seed + draw, measured=measured)
            for draw in range(draws)
        ]
        scores.add(name, given.names[k], made, measured)


class _Scores:
    """Scores of every method at every held-out section, as they come in."""

    def __init__(self, genes: pd.Index, *, n_genes: int) -> None:
        self._names, self._n_genes = genes, n_genes
        self._draws: dict[tuple[str, str], pd.DataFrame] = {}  # (method, section): draws × metrics
        self._genes: dict[tuple[str, str], pd.DataFrame] = {}  # (method, section): genes × metrics, mean over draws

    def add(self, method: str, name: str, made: Sequence[Section], measured: Section) -> None:
        """Score the draws of one method at section `name`."""
        try:
            self._draws[method, name] = pd.DataFrame([score(one, measured, n_genes=self._n_genes) for one in made])
        except ValueError as error:
            msg = f"section {name!r} cannot be scored: {error}"
            raise ValueError(msg) from error
        self._genes[method, name] = _mean([pd.DataFrame(per_gene(one, measured)).drop(columns="gene") for one in made])

    def table(self, methods: Sequence[str]) -> pd.DataFrame:
        """All scores and what to make of them, rows (section, gene, metric)."""
        names = [name for method, name in self._draws if method == "isost"]
        by_gene = {method: _mean([self._genes[method, name] for name in names]) for method in methods}
        ours = by_gene["isost"]
        overall = self._summary(methods, names)
        trusted = trust(ours["morans_i"].to_numpy(), ours["r_voxel"].to_numpy())
        at_r_voxel = overall.index.get_level_values("metric") == "r_voxel"
        overall["verdict"] = overall["verdict"].where(~at_r_voxel, overall["verdict"] + f"; {trusted}")
        each = [self._summary(methods, [name], label=name) for name in names]
        table = pd.concat([overall, self._gene_rows(by_gene), *each])
        table.index = _in_own_order(
            table.index, section=[_OVER_SECTIONS, *names], gene=[_OVER_GENES, *self._names], metric=_METRICS
        )
        return table

    def _summary(self, methods: Sequence[str], names: Sequence[str], *, label: str = _OVER_SECTIONS) -> pd.DataFrame:
        """Mean scores over the sections named, and the verdict on each."""
        draws = {method: [self._draws[method, name] for name in names] for method in methods}
        summary = pd.DataFrame(
            {
                method: pd.concat([table.mean() for table in tables], axis=1).mean(axis=1)
                for method, tables in draws.items()
            }
        )
        summary["verdict"] = [
            compare(
                metric, {method: np.stack([table[metric] for table in draws[method]], axis=1) for method in methods}
            )
            for metric in summary.index
        ]
        summary.index = _rows([label], [_OVER_GENES], summary.index)
        return summary

    def _gene_rows(self, by_gene: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Scores of every gene, and whether to trust it."""
        ours = by_gene["isost"]
        rows = pd.DataFrame({method: table.to_numpy().ravel() for method, table in by_gene.items()})
        words = pd.DataFrame("", index=ours.index, columns=ours.columns)
        words["r_voxel"] = np.where(ours["r_voxel"] >= TRUSTED_R, "trust", "do not trust")
        rows["verdict"] = words.to_numpy().ravel()
        rows.index = _rows([_OVER_SECTIONS], self._names, ours.columns)
        return rows


def _mean(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean of tables with the same rows; a score that one of them does not have is left out."""
    return pd.concat(tables).groupby(level=0, sort=False).mean()


def _rows(sections: Sequence[str], genes: Sequence[str] | pd.Index, metrics: pd.Index) -> pd.MultiIndex:
    return pd.MultiIndex.from_product([sections, genes, metrics], names=["section", "gene", "metric"])


def _in_own_order(index: pd.Index, **levels: Sequence[str]) -> pd.MultiIndex:
    """Return the same index, its levels sorted as the table is: pandas then finds rows quickly and does not warn."""
    ordered: dict[str, Any] = {name: pd.Index(level) for name, level in levels.items()}
    codes = [level.get_indexer(index.get_level_values(name)).tolist() for name, level in ordered.items()]
    return pd.MultiIndex(levels=list(ordered.values()), codes=codes, names=list(ordered))


def _as_section(made: AnnData, genes: pd.Index) -> Section:
    columns = made.var_names.get_indexer(genes)
    return Section(made.obsm[SPATIAL], dense(made.X[:, columns]), made.layers[MEAN][:, columns])
