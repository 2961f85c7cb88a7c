from __future__ import annotations

import warnings
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from isost._checks import check_at_least
from isost._keys import SECTION
from isost._logging import logger
from isost.io import named_sections

from ._checks import Finding, Look, findings
from ._matrix import join_expression, read_expression
from ._pca import mean_and_scale
from ._sections import check_section, check_sections, positions, section_depths, shared_genes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from anndata import AnnData

__all__ = ["check", "tell"]

_COLUMNS = tuple(field.name for field in fields(Finding))
_SEVERITY = pd.CategoricalDtype(["error", "warning", "note"], ordered=True)


def check(
    adatas: Sequence[AnnData] | Mapping[str, AnnData] | AnnData,
    *,
    spatial_key: str = "spatial",
    z_key: str = "z",
    z: Sequence[float] | Mapping[str, float] | None = None,
    section_key: str = SECTION,
    layer: str | None = None,
    genes: Sequence[str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Look for what is wrong with sections, or probably is, and say what to do about it.

    Nothing is changed. :func:`slice_stack` looks at the same things: it raises the errors and warns of the warnings.

    Parameters
    ----------
    adatas, spatial_key, z_key, z, section_key, layer, genes
        As those of :func:`slice_stack`.
    seed
        Chooses the cells to look at, where not all of them are needed.

    Returns
    -------
    One row for each finding, the worst first, none where all is well:

    ``severity``
        ``"error"``: the sections cannot be used as they are; ``"warning"``: the result is probably not what is wanted;
        ``"note"``: good to know. Where there are errors, nothing else is looked for.
    ``section``
        Name of the section; empty where it is about all.
    ``check``
        What was looked at, with the meaning of ``number``:

        - ``input``: whether the sections can be used at all; no number.
        - ``units``: z against x and y; median gap, in spacings of cells.
        - ``order``: that of z against the one given; pairs of sections that run the other way.
        - ``gaps``: a section missing or given twice; gap below the section, by the median of the others.
        - ``numbers``: of cells; how many times those of the most similar section near by.
        - ``scale``: of x and y; how many times as wide as the most similar section near by.
        - ``duplicates``: cells at one place; their share.
        - ``outliers``: cells far from the tissue; how many.
        - ``counts``: expression that is raw or not logged; its largest value.
        - ``genes``: that one section lacks; their share of those that all others have.
        - ``batch``: a section whose mean profile stands out; its shift, in standard deviations of a gene.
        - ``registration``: sections mirrored, rotated or shifted against their neighbours; degrees, or widths.
    ``number``
        What was measured.
    ``message``, ``advice``
        The same in words, and what to do.

    Examples
    --------
    >>> report = isost.pp.check(adatas)
    >>> report[report["severity"] == "warning"]
    """
    check_at_least(0, seed=seed)
    found = _Found()
    sections = found.errors_of("", named_sections, adatas, section_key=section_key) or {}
    for name, section in sections.items():
        found.errors_of(name, check_section, name, section)
    if not found:
        found.errors_of("", check_sections, sections, section_key=section_key)
        points = {
            name: found.errors_of(name, positions, name, section, spatial_key=spatial_key)
            for name, section in sections.items()
        }
        shared = found.errors_of("", shared_genes, sections, genes=genes)
    if not found:
        depths = found.errors_of("", section_depths, sections, z=z, z_key=z_key, spatial_key=spatial_key)
        parts = {
            name: found.errors_of(name, read_expression, name, section, shared, layer=layer)
            for name, section in sections.items()
        }
    if not found:
        sections = {name: sections[name] for name in sorted(depths, key=depths.__getitem__)}
        X = join_expression([parts.pop(name) for name in sections])
        found.errors_of("", mean_and_scale, X)
    if not found:
        found += findings(Look.of(sections, points, depths, X, genes_named=genes is not None, seed=seed))
    report = pd.DataFrame(found, columns=list(_COLUMNS)).astype({"severity": _SEVERITY, "number": np.float64})
    return report.sort_values("severity", kind="stable", ignore_index=True).astype({"severity": str})


class _Found(list[Finding]):
    """Findings as they come in."""

    def errors_of(self, section: str, function: Callable[..., Any], *args: Any, **kws: Any) -> Any:
        """Call the function, and note the error it raises of bad input."""
        try:
            return function(*args, **kws)
        except (KeyError, TypeError, ValueError) as error:
            message, _, advice = str(error.args[0]).partition("; ")
            self.append(Finding("error", section, "input", np.nan, message, advice))


def tell(found: Iterable[Any], *, stacklevel: int) -> None:
    """Say what was found, once: warn of what is worth a warning, and log the rest.

    Parameters
    ----------
    found
        Findings, or rows of a report of them.
    stacklevel
        As that of :func:`warnings.warn`.
    """
    for finding in found:
        message = f"{finding.message}; {finding.advice}"
        if finding.severity == "note":
            logger.info(message)
        else:
            warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)
