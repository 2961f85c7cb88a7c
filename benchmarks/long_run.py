"""Memory of the process over a long fit: it must not grow with the epochs.

    OMP_NUM_THREADS=1 python benchmarks/long_run.py [--epochs 1000] [--cells 500]

Four sections of the synthetic organ, with a checkpoint every 50 epochs, once for each objective. Each row gives the
memory after so many epochs and the most that there was since the row before.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from _measure import Cost, measured

import isost
from isost.tl import _fit

if TYPE_CHECKING:
    from isost.training import Progress

N_ROWS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=500)
    options = parser.parse_args()
    isost.settings.progress = False
    stack = isost.pp.slice_stack(isost.datasets.organ(n_sections=4, cells_per_section=options.cells), n_comps=20)
    print("| objective | epochs | memory, MB | most since the row before, MB |\n|---|---|---|---|")
    for objective in ("bridge", "trajectory"):
        rows = watched(stack, objective=objective, epochs=options.epochs)
        for epoch, cost in rows:
            print(f"| {objective} | {epoch:,} | {1024 * cost.left:.0f} | {1024 * cost.peak:.0f} |", flush=True)


def watched(stack: Any, *, objective: str, epochs: int) -> list[tuple[int, Cost]]:
    """Fit, and measure the memory of each tenth of the epochs."""
    rows: list[tuple[int, Cost]] = []
    with ExitStack() as last, tempfile.TemporaryDirectory() as folder:
        costs = [last.enter_context(measured())]

        def on_epoch(at: Progress) -> None:
            if len(at.history) % (epochs // N_ROWS) == 0:
                last.close()
                rows.append((len(at.history), costs[-1]))
                costs.append(last.enter_context(measured()))

        optimize = _fit.optimize
        _fit.optimize = lambda *args, settings, **kws: optimize(
            *args, settings=dataclasses.replace(settings, on_epoch=on_epoch), **kws
        )
        try:
            isost.tl.fit(stack, objective=objective, epochs=epochs, hidden_dim=32, n_cells=30, checkpoint_dir=folder)
        finally:
            _fit.optimize = optimize
    return rows


if __name__ == "__main__":
    main()
