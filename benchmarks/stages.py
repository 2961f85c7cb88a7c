"""Where time and memory go: every stage of a reconstruction, by cells per section.

    OMP_NUM_THREADS=1 python benchmarks/stages.py [--sizes 1000 10000 100000] [--genes 100] [--device cuda]

Three sections of the synthetic organ, two gaps, default networks. For each stage: seconds of all threads together, and
the largest size of the process meanwhile; points per second; and the share of the floor. The floor is the time that
the products of matrices would take at the speed of one large product, plus the time that reading and writing inputs,
outputs and gathered neighbours once would take at the speed of a copy, both measured first. Then how the cost of a
cell grows from one size to the next. Every size has a process of its own.

With --device cuda the networks, their neighbours and the published losses are measured on a GPU, by the clock, beside
the floor of the GPU; all other stages are work of the CPU in any case.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _measure import CPU, bandwidth, measured, peak_flops, seconds
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable

N_SECTIONS = 3


@dataclass
class Stage:
    """One stage; `work` is done once to warm up on few points, then measured."""

    name: str
    work: Callable[[], Any]
    points: int
    bytes: float
    counted: bool = False  # whether its products of matrices are torch's, which can be counted
    flops: float = 0.0
    device: torch.device = CPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--genes", type=int, default=100)
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--device", type=torch.device, default="cpu")
    options = parser.parse_args()
    if options.job:
        print(json.dumps(stages_of(options.job, options.genes, options.device)))
        return
    torch.set_num_threads(1)
    speeds = {str(device): (peak_flops(device), bandwidth(device)) for device in dict.fromkeys((CPU, options.device))}
    for device, (flops, speed) in speeds.items():
        name = "one thread" if device == "cpu" else torch.cuda.get_device_name(device)
        print(f"{name}: {flops / 1e9:.0f} GFLOP/s in a product of matrices, {speed / 1e9:.1f} GB/s in a copy")
    print()
    found = {}
    for size in options.sizes:
        command = [sys.executable, __file__, "--genes", str(options.genes), "--job", str(size)]
        command += ["--device", str(options.device)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[size] = json.loads(output.splitlines()[-1])
        print(f"{size:,} cells per section\n| stage | s | points a second | share of the floor | peak, GB | GPU, GB |")
        print("|---|---|---|---|---|---|")
        for name, stage in found[size].items():
            flops, speed = speeds[stage["device"]]
            floor = stage["flops"] / flops + stage["bytes"] / speed
            rate, share = stage["points"] / stage["s"], floor / stage["s"]
            print(
                f"| {name} | {stage['s']:.3g} | {rate:,.0f} | {share:.2f} | {stage['peak']:.2f} | {stage['gpu']:.2f} |"
            )
        print(flush=True)
    growth(found)


def growth(found: dict[int, dict[str, dict[str, Any]]]) -> None:
    """Print by how much the cost of one cell grows from each size to the next."""
    sizes = list(found)
    print("| seconds a cell, relative to the size before | " + " | ".join(f"{size:,}" for size in sizes[1:]) + " |")
    print("|---" * len(sizes) + "|")
    for name in [*found[sizes[0]], "all"]:
        cost = [sum(stage["s"] for key, stage in found[size].items() if name in (key, "all")) / size for size in sizes]
        print(f"| {name} | " + " | ".join(f"{b / a:.2f}" for a, b in itertools.pairwise(cost)) + " |")
    peak = [max(stage["peak"] for stage in found[size].values()) for size in sizes]
    print(f"\nlargest memory, GB: {dict(zip(sizes, np.round(peak, 2).tolist(), strict=True))}")


def stages_of(size: int, n_genes: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Measure all stages for one number of cells per section."""
    import isost
    from isost.field import LocalLinear
    from isost.nn import Drift, nearest_neighbors
    from isost.training import expression_loss, section_displacements, sinkhorn_divergence
    from isost.volume import Accumulator, Grid, decode, default_voxel_size, spread_in_layer

    isost.settings.progress = False
    torch.set_num_threads(1)
    sections = isost.datasets.organ(n_sections=N_SECTIONS, cells_per_section=size, n_genes=n_genes)
    n = sum(section.n_obs for section in sections)
    stack = isost.pp.slice_stack(sections)
    n_comps = stack.obsm["X_isost"].shape[1] - 3
    state = torch.as_tensor(np.asarray(stack.obsm["X_isost"]))
    sizes = [section.n_obs for section in sections]
    parts = state.split(sizes)
    positions = [part[:, :2].numpy().astype(np.float64) for part in parts]
    drift = Drift(n_comps, hidden_dim=128, planar=True).to(device)
    field = LocalLinear(positions[0], parts[0][:, 3:].numpy(), n_cells=30)
    places = np.asarray(stack.obsm["spatial"])[: sizes[0]]
    edge = default_voxel_size([places])
    grid = Grid.covering(places.min(0), places.max(0), edge)
    pcs = parts[0][:, 3:].numpy()
    loadings, ones = np.asarray(stack.varm["PCs"]), np.ones(n_genes)
    tile = min(512, *sizes)
    state = state.to(device)
    table = nearest_neighbors(state[:, :3], 5, sizes=sizes)

    def voxels() -> None:
        accumulator = Accumulator(grid, 0)
        spread, shares = spread_in_layer(places, np.ones(len(places)), grid)
        accumulator.add(spread, np.empty((len(spread), 0)), shares)
        accumulator.result()

    def backward() -> None:
        for part, own in zip(state.split(sizes), table.split(sizes), strict=True):
            (drift(part, table=own - own.min()) ** 2).mean().backward()

    @torch.no_grad()
    def forward() -> None:
        drift(state, table=table, sizes=sizes)

    def losses() -> None:
        # the published losses, in tiles of the size that a step of training sees
        lower, upper, _ = state.split(sizes)
        for a, b in zip(lower.split(tile), upper.split(tile), strict=False):
            moved = a.clone().requires_grad_()
            loss = sinkhorn_divergence(moved[:, :3], b[:, :3]) + expression_loss(moved, b)
            loss.backward()

    gathered = 4 * 5 * (2 * 3 + 2 * 128 + 2 * 2 + 3 * 128)  # neighbours' vectors, bytes a point
    expression = 4.0 * n * n_genes
    there: dict[str, Any] = {"device": device}
    return {
        stage.name: cost_of(stage)
        for stage in (
            Stage("stack", lambda: isost.pp.slice_stack(sections), n, 3 * expression, flops=2.0 * n * n_genes**2),
            Stage("neighbours", lambda: nearest_neighbors(state[:, :3], 5, sizes=sizes), n, n * (12 + 40), **there),
            Stage("drift forward", forward, n, n * (8.0 * (3 + n_comps) + gathered), counted=True, **there),
            Stage("drift backward", backward, n, 3 * n * (8.0 * (3 + n_comps) + gathered), counted=True, **there),
            Stage("losses", losses, sizes[0], sizes[0] * 8.0 * (3 + n_comps), counted=True, **there),
            Stage("transport", lambda: section_displacements(positions), n, 32.0 * n),
            Stage("expectation", lambda: field(positions[1]), sizes[1], sizes[1] * 30 * 4.0 * n_comps),
            Stage("voxels", voxels, sizes[0], sizes[0] * (24 + 4 * 24.0)),
            Stage(
                "decode",
                lambda: decode(pcs, loadings, 0 * ones, ones),
                sizes[0],
                4.0 * sizes[0] * n_genes,
                flops=2.0 * sizes[0] * n_genes * n_comps,
            ),
        )
    }


def cost_of(stage: Stage) -> dict[str, Any]:
    if stage.counted:
        with FlopCounterMode(display=False) as counter:
            stage.work()
        stage.flops = counter.get_total_flops()
    if stage.device.type == "cuda":
        stage.work()  # its first time, a kernel is loaded
    with measured(stage.device) as cost:
        stage.work()
    return {
        "device": str(stage.device),
        "s": seconds(cost, stage.device),
        "peak": cost.peak,
        "gpu": cost.gpu,
        "points": stage.points,
        "flops": float(stage.flops),
        "bytes": float(stage.bytes),
    }


if __name__ == "__main__":
    main()
