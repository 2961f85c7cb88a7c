"""Time and memory on measured sections: a volume of all of them, and a fit to some cells of those not left out.

    OMP_NUM_THREADS=1 python benchmarks/measured_sets.py [merfish bdtnp synovium] [--cells 1000]   # in ISOST_TEST_DATA
    OMP_NUM_THREADS=1 python benchmarks/measured_sets.py a.h5ad b.h5ad … --hold-out 1 3            # one's own sections

First `isost.tl.reconstruct`, sections in and volume out. Then the sections named are left out, a model is fitted to so
many cells of each of the others, all cells of these are carried by it, and the generated sections are scored.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from _measure import measured
from ablation import METRICS, generated, given
from ablation import measured as as_measured

import isost
from isost.metrics import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", nargs="*", default=["merfish"], help="names of measured sets, or files with one section each"
    )
    parser.add_argument("--hold-out", type=int, nargs="+", help="numbers of sections in z order, from 0")
    parser.add_argument("--cells", type=int, default=1000, help="cells of each section to learn from")
    options = parser.parse_args()
    for name, sections, held in given(options.data, options.hold_out):
        with measured() as cost:
            volume = isost.tl.reconstruct(sections)
        print(
            f"{name}: {len(sections)} sections into {volume.n_obs:,} voxels in {cost.wall:.1f} s by the clock, ", end=""
        )
        print(f"{cost.cpu:.1f} s of CPU, {cost.peak:.2f} GB", flush=True)
        stack = isost.pp.slice_stack([section for k, section in enumerate(sections) if k not in held])
        some = stack[rows_of_some(stack.obs["section"], options.cells)].copy()
        with measured() as cost:
            model = isost.tl.fit(some)
        print(
            f"fit to {some.n_obs:,} of {stack.n_obs:,} cells: {cost.cpu:.1f} s of CPU, {cost.peak:.2f} GB", flush=True
        )
        scores = [
            score(
                generated(isost.tl.section(stack, model=model, z=float(sections[k].obs["z"].iloc[0])), sections[k]),
                as_measured(sections[k]),
            )
            for k in held
        ]
        print(pd.DataFrame(scores)[METRICS].mean().round(4).to_string(), "\n", flush=True)


def rows_of_some(section: pd.Series, n: int) -> np.ndarray:
    """Rows of n cells of every section, in order."""
    rng = np.random.default_rng(0)
    own = [np.flatnonzero(section == name) for name in section.cat.categories]
    return np.sort(np.concatenate([rng.permutation(rows)[:n] for rows in own]))


if __name__ == "__main__":
    main()
