"""Whole organs on a laptop: time and peak memory of every step, with sections and volume on disk.

    OMP_NUM_THREADS=1 python benchmarks/organ_scale.py FOLDER [--sections 66 --cells 18200 --steps 20] [--chosen]
        [--device cuda] [--precision bfloat16]

Sections of the synthetic organ are written to FOLDER one by one, unless they are there, as sparse log-normalised counts
in .h5ad; then stacked lazily, fitted, and reconstructed into FOLDER/volume.zarr. Peak memory is that of the process in
each step (VmHWM of Linux, reset between steps), so it includes what earlier steps left behind. With --chosen smoothing
and shift are given instead of chosen by leaving sections out. --epochs 0 leaves the drift untrained. With --device cuda
the networks are trained and cells are carried on a GPU, and the most memory that tensors took there is told, too.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _measure import measured

import isost

if TYPE_CHECKING:
    from collections.abc import Iterator

GAP = 60.0  # micrometres


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sections", type=int, default=20)
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--genes", type=int, default=100)
    parser.add_argument("--across", type=float, default=220, help="voxels across the widest section")
    parser.add_argument("--steps", type=int, default=5, help="steps a gap")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--chosen", action="store_true")
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    told = partial(tell, device=options.device)
    isost.settings.progress, isost.settings.precision = False, options.precision
    folder = options.folder / f"{options.sections}x{options.cells}x{options.genes}"
    with told("sections to disk"):
        write_sections(folder, options.sections, options.cells, options.genes)
    with told("open sections"):
        sections = isost.io.read_sections(folder, lazy=True)
    with told("stack"):
        stack = isost.pp.slice_stack(sections, lazy=True)
    fixed: dict[str, Any] = {"n_cells": 30, "adaptive": False, "expression_shift": 0.0} if options.chosen else {}
    with told("fit"):
        model = isost.tl.fit(stack, epochs=options.epochs, delta_z=0.1 / options.steps, device=options.device, **fixed)
    width = float(np.ptp(stack.obsm["spatial"][:, :2], axis=0).max())
    with told("volume"):
        volume = isost.tl.reconstruct(
            stack, model=model, voxel_size=width / options.across, store=options.folder / "volume.zarr"
        )
    print(f"{volume.n_obs:,} voxels, grid {volume.uns['isost']['grid']['shape']}")
    with told("a gene of it"):
        volume[:, volume.var_names[0]].X.compute(scheduler="synchronous")
    with told("a section"):
        isost.tl.section(stack, model=model, z=GAP / 2)


def write_sections(folder: Path, n_sections: int, n_cells: int, n_genes: int) -> None:
    """About as many cells in every section, of an organ as wide as it is deep."""
    depth = GAP * (n_sections - 1)
    organ = isost.datasets.Organ(n_genes=n_genes, depth=depth, radius=depth / 2)
    for k in range(n_sections):
        path = folder / f"section{k}.h5ad"
        if not path.exists():
            section = organ.cells_at(GAP * k, n_cells, seed=k, name=f"section{k}")
            del section.layers["counts"]
            isost.io.write(section, path)


@contextmanager
def tell(what: str, device: torch.device) -> Iterator[None]:
    with measured(device) as cost:
        yield
    gpu = f"   GPU {cost.gpu:6.2f} GB" if device.type == "cuda" else ""
    print(f"{what:<18}{cost.wall:9.1f} s   peak {cost.peak:6.2f} GB   left {cost.left:6.2f} GB{gpu}", flush=True)


if __name__ == "__main__":
    main()
