from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from isost.pp import read_rows
from isost.volume import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isost.pp import Stack

__all__ = ["Sampler"]


class Sampler:
    """Expression of cells that were carried elsewhere: their own, changed as their components have.

    What sets a cell apart from its surroundings stays, and so does what the components do not hold. The result is
    kept within the range that each gene has in the data, so that a gene cannot fall below the zero of counts.

    Parameters
    ----------
    X
        Expression of the stack (n, genes), dense, sparse or lazy.
    stack
        The stack's loadings and scales.
    """

    def __init__(self, X: Any, stack: Stack) -> None:
        self._X, self._stack = X, stack

    def __call__(self, donor: NDArray[np.intp], change: NDArray[np.floating]) -> Any:
        """Sample the expression of cells, given their rows in the stack (n,) and their components' change (n, G)."""
        return self.changed(read_rows(self._X, donor), change)

    def changed(self, own: Any, change: NDArray[np.floating]) -> Any:
        """Sample it given the cells' own expression (n, genes), dense or sparse."""
        if not change.any():
            return own.copy()
        stack = self._stack
        moved = decode(change, stack.loadings, np.zeros_like(stack.gene_mean), stack.gene_scale)
        changed = np.clip((own.toarray() if sp.issparse(own) else np.asarray(own)) + moved, *stack.gene_range)
        return sp.csr_matrix(changed) if sp.issparse(own) else changed
