from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from isost._keys import GENE_MAX, GENE_MEAN, GENE_MIN, GENE_SCALE, OF_GENES, PCS, SECTIONS, STATE, UNS
from isost._normalization import DEPTH, Normalization

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["Stack"]


@dataclass(frozen=True)
class Stack:
    """What the layers below AnnData need of a stack; read it, do not write to it.

    K sections, n points in z order, G principal components.

    Attributes
    ----------
    names
        Names of the sections, in z order.
    depths
        Normalised depth of each section (K,); the first is 0, the median gap 0.1.
    z
        Depth of each section (K,), input units.
    sizes
        Number of points of each section (K,).
    offsets
        Row at which each section begins, and n at the end (K + 1,).
    normalization
        From input units to the state and back.
    state
        Normalised positions and components (n, 3 + G).
    loadings
        Gene loadings (genes, G).
    gene_mean
        Mean of every gene (genes,), input's scale.
    gene_scale
        Standard deviation of every gene (genes,), input's scale.
    gene_range
        Least and largest value of every gene (2, genes), input's scale.
    """

    names: tuple[str, ...]
    depths: NDArray[np.float64]
    z: NDArray[np.float64]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    normalization: Normalization
    state: NDArray[np.float32]
    loadings: NDArray[np.float32]
    gene_mean: NDArray[np.float64]
    gene_scale: NDArray[np.float64]
    gene_range: NDArray[Any]

    def section(self, k: int) -> slice:
        """Rows of section `k`, counted from 0 in z order; negative counts from the end."""
        k = range(len(self.names))[k]
        return slice(int(self.offsets[k]), int(self.offsets[k + 1]))

    @classmethod
    def from_anndata(cls, stack: AnnData) -> Stack:
        """From what :func:`isost.pp.slice_stack` returned.

        Parameters
        ----------
        stack
            The stack; it may have been written and read again.

        Returns
        -------
        A view: arrays are shared with `stack` where their types allow it.

        Raises
        ------
        ValueError
            If this is not a stack, or no longer a whole one.
        """
        kept = stack.uns.get(UNS, {})
        whole = {"normalization", "n_genes", SECTIONS, "params"} <= set(kept) and set(OF_GENES) <= set(stack.var)
        if not whole or STATE not in stack.obsm or PCS not in stack.varm:
            msg = (
                f"this AnnData is not a stack: obsm[{STATE!r}], varm[{PCS!r}], uns[{UNS!r}] or columns of var are "
                f"missing; call isost.pp.slice_stack first"
            )
            raise ValueError(msg)
        if kept["n_genes"] != stack.n_vars:
            msg = (
                f"the stack was prepared with {kept['n_genes']} genes and now has {stack.n_vars}; "
                f"call isost.pp.slice_stack with genes= instead of taking a subset"
            )
            raise ValueError(msg)
        names = tuple(str(name) for name in kept[SECTIONS]["names"])
        sizes = _sizes(stack, names, section_key=str(kept["params"]["section_key"]))
        normalization = Normalization.from_dict(kept["normalization"])
        z = np.asarray(kept[SECTIONS]["z"], dtype=np.float64)
        return cls(
            names=names,
            depths=normalization.encode(z[:, None], dims=DEPTH)[:, 0],
            z=z,
            sizes=sizes,
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            normalization=normalization,
            state=np.asarray(stack.obsm[STATE], dtype=np.float32),
            loadings=np.asarray(stack.varm[PCS]),
            gene_mean=stack.var[GENE_MEAN].to_numpy(dtype=np.float64),
            gene_scale=stack.var[GENE_SCALE].to_numpy(dtype=np.float64),
            gene_range=stack.var[[GENE_MIN, GENE_MAX]].to_numpy().T,
        )


def _sizes(stack: AnnData, names: tuple[str, ...], *, section_key: str) -> NDArray[np.int64]:
    """Points of each section; the rows must still lie section by section, in z order."""
    again = "call isost.pp.slice_stack again on the sections you want"
    if section_key not in stack.obs:
        msg = f"the stack has lost obs[{section_key!r}]; {again}"
        raise ValueError(msg)
    number = {name: float(k) for k, name in enumerate(names)}
    labels = pd.Categorical(stack.obs[section_key])
    # the last entry is for points without a section, whose code is -1
    number_of = np.array([*(number.get(str(category), np.nan) for category in labels.categories), np.nan])
    codes = number_of[labels.codes]
    if np.isnan(codes).any() or (np.diff(codes) < 0).any():
        msg = f"obs[{section_key!r}] no longer runs through the sections {list(names)} in z order; {again}"
        raise ValueError(msg)
    sizes = np.bincount(codes.astype(np.int64), minlength=len(names))
    if (sizes == 0).any():
        msg = f"section {names[int(sizes.argmin())]!r} has no points left in the stack; {again}"
        raise ValueError(msg)
    return sizes
