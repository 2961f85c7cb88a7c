"""Other ways to do on a GPU what takes isost's time there, beside its own: neighbours, drift and transport.

    python benchmarks/gpu.py [--cells 18200] [--sections 20] [--device cuda]

A table with the milliseconds of every way (the best of five), the share of isost's own, and how far its results are:
of neighbours the share of points with other neighbours at another distance, of a drift and a divergence the largest
difference relative to the largest value. faiss (faiss-gpu-cu12) and flash-sinkhorn are compared where they are
installed; a way that fails is named with its error. On the CPU it shows that the ways agree, not which is fast.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _measure import best_time
from torch import Tensor

from isost.nn import Drift, nearest_neighbors
from isost.nn._neighbors import _compared_with_all
from isost.training import sinkhorn_divergence

if TYPE_CHECKING:
    from collections.abc import Callable

K = 5
BLUR, SCALING = 0.05, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=18_200, help="of a section")
    parser.add_argument("--sections", type=int, default=20, help="that are walked at a time")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = options.device
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU", "torch", torch.__version__)
    torch.manual_seed(0)
    sizes = [options.cells] * options.sections
    position = torch.rand(sum(sizes), 3)
    position[:, 2] = torch.arange(len(sizes)).repeat_interleave(options.cells) / 10
    position = position.to(device)
    compare("neighbours", neighbor_ways(position, sizes), lambda a, b: differing(position, a, b), device)
    compare("drift forward", drift_ways(position, sizes, gradient=False), relative, device)
    compare("drift and gradient", drift_ways(position, sizes, gradient=True), relative, device)
    for n in sorted({min(512, options.cells), options.cells}):
        compare(f"divergence of {n:,} cells", divergence_ways(position[:n], position[-n:]), relative, device)


def compare(
    what: str, ways: dict[str, Callable[[], Any]], difference: Callable[[Any, Any], float], device: torch.device
) -> None:
    """Print a table of ways to one result; the first is isost's own, to which the others are compared."""
    print(f"\n| {what} | ms | of isost's | difference |\n|---|---|---|---|")
    results: list[tuple[Any, float]] = []
    for name, work in ways.items():
        try:
            result, taken = work(), 1e3 * best_time(work, device)
        except Exception as error:
            if not results:  # isost's own
                raise
            print(f"| {name} | {type(error).__name__}: {str(error).splitlines()[0][:120]} | | |", flush=True)
            continue
        results.append((result, taken))
        apart = difference(result, results[0][0])
        print(f"| {name} | {taken:.3g} | {taken / results[0][1]:.2f} | {apart:.2g} |", flush=True)


def neighbor_ways(position: Tensor, sizes: list[int]) -> dict[str, Callable[[], Tensor]]:
    def by_block(search: Callable[[Tensor], Tensor]) -> Tensor:
        first = np.cumsum([0, *sizes[:-1]])
        return torch.cat([search(part) + int(start) for part, start in zip(position.split(sizes), first, strict=True)])

    def all_pairs(part: Tensor) -> Tensor:
        return _compared_with_all(part.double(), torch.arange(len(part), device=part.device), K)

    def by_faiss(part: Tensor) -> Tensor:
        import faiss
        import faiss.contrib.torch_utils  # so that it takes tensors

        centred = part - part.mean(0)
        resources = faiss.StandardGpuResources()
        return faiss.knn_gpu(resources, centred, centred, K + 1)[1][:, 1:]  # type: ignore[no-any-return]

    return {
        "isost": lambda: nearest_neighbors(position, K, sizes=sizes),
        "all pairs": lambda: by_block(all_pairs),
        "faiss": lambda: by_block(by_faiss),
    }


def differing(position: Tensor, found: Tensor, wanted: Tensor) -> float:
    """Share of points whose neighbours lie elsewhere: others at the same distance are as good."""
    distance = [(position[:, None] - position[table]).norm(dim=2).sort(1).values for table in (found, wanted)]
    return float(((distance[0] - distance[1]).abs().amax(1) > 1e-6).double().mean())


def drift_ways(position: Tensor, sizes: list[int], *, gradient: bool) -> dict[str, Callable[[], Tensor]]:
    # the network that every volume needs; where expression moves with its surroundings, there is a second one
    network = Drift(0, hidden_dim=128, planar=True).shape.to(position.device)
    table = nearest_neighbors(position, K, sizes=sizes)
    graphed: list[Callable[[], Tensor]] = []

    def run(way: Callable[..., Tensor] = network, context: Any = None) -> Tensor:
        with nullcontext() if context is None else context, torch.set_grad_enabled(gradient):
            out = way(position, table).float()
        if not gradient:
            return out
        network.zero_grad()
        (out**2).mean().backward()
        return torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None])

    def with_precision(precision: str) -> Tensor:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            return run()
        finally:
            torch.set_float32_matmul_precision(before)

    def replayed() -> Tensor:
        if not graphed:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                run()  # what is set up at the first call cannot be captured
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = run()
            graphed.append(lambda: (graph.replay(), out)[1])
        return graphed[0]().clone()

    compiled = torch.compile(network)
    return {
        "isost": run,
        "TF32": lambda: with_precision("high"),
        "bfloat16": lambda: run(context=torch.autocast(position.device.type, dtype=torch.bfloat16)),
        "compiled": lambda: run(compiled),
        "CUDA graph": replayed,
    }


def divergence_ways(x: Tensor, y: Tensor) -> dict[str, Callable[[], Tensor]]:
    def gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        moved = x.detach().clone().contiguous().requires_grad_()
        loss(moved, y.detach().clone().contiguous()).backward()
        assert moved.grad is not None
        return moved.grad

    settings: dict[str, Any] = {"blur": BLUR, "scaling": SCALING}

    def flash(a: Tensor, b: Tensor) -> Tensor:
        from flash_sinkhorn import SamplesLoss

        # with half of the squared distance for cost, as isost's
        return SamplesLoss(loss="sinkhorn", debias=True, half_cost=True, **settings)(a, b)  # type: ignore[no-any-return]

    return {
        "isost": lambda: gradient(lambda a, b: sinkhorn_divergence(a, b, **settings)),
        "flash-sinkhorn": lambda: gradient(flash),
    }


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


if __name__ == "__main__":
    main()
