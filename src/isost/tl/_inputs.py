from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData

from isost._keys import PROVENANCE, STATE, UNS
from isost.generation import Expectation
from isost.pp import GenePCA, Stack, read_rows, slice_stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isost.model import IsoST

__all__ = ["Sections", "as_device", "as_stack", "check_fits", "dense", "is_stack", "record_of", "warn_many_steps"]

_MANY_STEPS = 1000
_SAME = 1e-6  # of the data's width: rounding, where the same sections were prepared twice


def is_stack(adatas: object) -> TypeGuard[AnnData]:
    """Whether this is a stack, of which :class:`isost.pp.Stack` then says whether it is still a whole one."""
    return isinstance(adatas, AnnData) and STATE in adatas.obsm and UNS in adatas.uns


def as_stack(
    adatas: AnnData | Sequence[AnnData] | Mapping[str, AnnData], stack_kws: Mapping[str, Any] | None
) -> AnnData:
    """Return the stack itself, or prepare sections as one."""
    if not is_stack(adatas):
        return slice_stack(adatas, **(stack_kws or {}))
    if stack_kws:
        msg = f"stack_kws={dict(stack_kws)!r} has no effect on a stack that is already prepared; pass the sections"
        raise ValueError(msg)
    return adatas


class Sections:
    """A stack's arrays, one entry a section, as the layers below take them.

    Attributes
    ----------
    stack
        Names, depths and normalisation.
    states
        State (n_k, 3 + G) of each section.
    positions
        Places x, y (n_k, 2) in state units, float64.
    expression
        Principal components (n_k, G), state units.
    """

    def __init__(self, adata: AnnData) -> None:
        if not isinstance(adata, AnnData):
            msg = f"a stack is one AnnData, not {type(adata).__name__}; call isost.pp.slice_stack on the sections first"
            raise TypeError(msg)
        self.stack = Stack.from_anndata(adata)
        if adata.X is None:
            msg = (
                "this stack is without expression (X is None): isost.compat.read_stack decodes it with decode=True "
                "and the PCA"
            )
            raise ValueError(msg)
        if adata.isbacked:
            msg = "the stack is backed by a file; call stack.to_memory(), or slice_stack(lazy=True) on the sections"
            raise ValueError(msg)
        self._X = adata.X
        self.states = [self.stack.state[self.stack.section(k)] for k in range(len(self.stack.names))]
        self.positions: list[NDArray[np.float64]] = [state[:, :2].astype(np.float64) for state in self.states]
        self.expression = [state[:, 3:] for state in self.states]

    @property
    def component_scale(self) -> NDArray[np.float64]:
        """Range of every principal component: what one state unit of it is."""
        return self.stack.normalization.scale[3:]

    def components(self, loadings: NDArray[np.floating]) -> Components:
        """Components of every section's expression along some loadings (genes, C), read when asked for."""
        return Components(self._X, self.stack, loadings)

    def expectation(self, model: IsoST) -> Expectation:
        """Make the estimate of the expected expression between the sections, as this model has it."""
        return Expectation(
            self.positions,
            self.components(model.loadings),
            n_cells=model.settings.n_cells,
            adaptive=model.settings.adaptive,
            cell_variance=model.cell_variance,
            gap_variance=model.settings.gap_variance,
        )


class Components(Sequence["NDArray[np.float64]"]):
    """Components (n_k, C) of each section's z-scored expression; those of a section are made when it is asked for."""

    def __init__(self, X: Any, stack: Stack, loadings: NDArray[np.floating]) -> None:
        self._X, self._stack = X, stack
        self._pca = GenePCA(np.asarray(loadings, np.float32), stack.gene_mean, stack.gene_scale)

    def __len__(self) -> int:
        return len(self._stack.names)

    def __getitem__(self, k: Any) -> Any:
        return self._pca.scores(read_rows(self._X, self._stack.section(k)))


def check_fits(model: IsoST, adata: AnnData, stack: Stack) -> None:
    """Raise ValueError unless the model was fitted to sections normalised as these."""
    again = "call isost.tl.fit on this stack, or pass the stack that the model was fitted to"
    if not model.genes:
        msg = "this model knows its drift alone; isost.compat.load_checkpoint gives it the rest with stack="
        raise ValueError(msg)
    if model.genes != list(adata.var_names):
        msg = f"the model knows {len(model.genes)} genes and this stack has {adata.n_vars}, or others; {again}"
        raise ValueError(msg)
    mine, theirs = stack.normalization, model.normalization
    same = mine.minimum.shape == theirs.minimum.shape and all(
        # a shift counts in units of the data's width: their distance from 0 says nothing
        (np.abs(a - b) <= _SAME * theirs.scale).all()
        for a, b in ((mine.minimum, theirs.minimum), (mine.scale, theirs.scale))
    )
    if not same:
        msg = f"the model was fitted to sections with another normalisation; {again}"
        raise ValueError(msg)


def record_of(adata: AnnData, model: IsoST) -> dict[str, Any]:
    """Gather what made the stack and the model, and where the model computes."""
    return {"device": model.device, "stack": adata.uns[UNS].get(PROVENANCE), "model": model.provenance}


def warn_many_steps(stack: Stack, *, n_steps: NDArray[np.integer], what: str) -> None:
    """Warn when a gap takes thousands of steps: z is then usually in another unit than it should be."""
    if n_steps.max() < _MANY_STEPS:
        return
    k = int(n_steps.argmax())
    width = stack.normalization.scale[0]
    msg = (
        f"the gap between sections {stack.names[k]!r} (z = {stack.z[k]:g}) and {stack.names[k + 1]!r} "
        f"(z = {stack.z[k + 1]:g}) takes {n_steps[k]:,} {what}: sections are {width:g} wide in x and y, so look "
        f"whether z is in the same unit, and give it by slice_stack(z=...) otherwise"
    )
    warnings.warn(msg, UserWarning, stacklevel=3)


def as_device(device: str | torch.device | None) -> torch.device:
    """Return the device named, or a GPU where there is one, else the CPU; refuse a GPU where there is none."""
    there_is_one = torch.cuda.is_available()
    chosen = torch.device(device if device is not None else "cuda" if there_is_one else "cpu")
    if chosen.type == "cuda" and not there_is_one:
        msg = f"device={str(device)!r}, but there is no GPU here: pass device='cpu'"
        raise ValueError(msg)
    if chosen.type == "cuda" and chosen.index is not None and chosen.index >= (n := torch.cuda.device_count()):
        msg = f"device={str(device)!r}, but there are {n} here, numbered from 0: pass device='cuda' for the first"
        raise ValueError(msg)
    return chosen


def dense(values: Any) -> NDArray[np.float64]:
    """Return expression as a dense float64 array, whether it is sparse or not."""
    return np.asarray(values.toarray() if sp.issparse(values) else values, dtype=np.float64)
