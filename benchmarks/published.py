"""Time and peak memory of the published workflow, by points per section: one joint epoch, and one inference.

    OMP_NUM_THREADS=1 python benchmarks/published.py [--sizes 1000 4000 16000] [--device cpu]

Three sections a gap of 0.1 apart, Δz 0.02 (five steps a gap), 50 components, both directions: the settings of the
published brain model but for its Δz of 0.01. Every figure comes from a process of its own; the memory is the largest
that process ever held, 0.4 GB of it before any work (on a GPU, the largest that torch has allocated there).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_SECTIONS, GAP, N_COMPS = 3, 0.1, 50
CONFIG = f"""
trainer: IsoST
params: {{gene_dim: {N_COMPS}, hidden_dim: 64, delta_d: 0.02, stride: 1, alpha: 0.1, dual: true, lr: 1e-3,
  optimizer_name: NAdam, std_x: 0.01, std_y: 0.01, std_z: 0.1, std_seq: 0.1}}
"""
NAMES = [f"section{k}" for k in range(N_SECTIONS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 4_000, 16_000])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measured(*options.job, device=options.device)))
        return
    print("| points per section | training, s an epoch | peak, GB | inference, s | peak, GB |\n|---|---|---|---|---|")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), size)
            cells = [f"{size:,}"]
            for what in ("train", "infer"):
                command = [sys.executable, __file__, "--device", options.device, "--job", what, folder]
                seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                cells += [f"{seconds:.1f}", f"{peak:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def write(folder: Path, size: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for k, name in enumerate(NAMES):
        state = torch.rand(size, 3 + N_COMPS, generator=generator)
        state[:, 2] = k * GAP
        torch.save(state, folder / f"{name}.pt")
    (folder / "config.yml").write_text(CONFIG)


def measured(what: str, folder: str, *, device: str) -> tuple[float, float]:
    """Seconds, and the largest memory in GB."""
    import torch

    from isost import compat

    start = time.perf_counter()
    if what == "train":
        compat.biaxial_train(
            f"{folder}/run", folder, NAMES, 1, f"{folder}/config.yml", device, 1, 1, [1], "joint", progress=False
        )
    else:
        compat.fine_inference(
            f"{folder}/run", folder, NAMES, "joint", None, f"{folder}/result", 1, device, progress=False
        )
    seconds = time.perf_counter() - start
    on_gpu = torch.device(device).type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return seconds, peak / 1e9


if __name__ == "__main__":
    main()
