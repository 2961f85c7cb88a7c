"""Kill isost at random moments, as often as wanted: does the resumed run end as an unbroken one, bit for bit?

    OMP_NUM_THREADS=1 python benchmarks/faults.py [--kills 50] [--seed 0]

The work is a fit with checkpoints, a saved model, a volume written slab by slab, and a generated section written to
h5ad. What is found under its final name is taken for whole and not made again. A process does the work; it is killed
(SIGKILL) at a random moment of a stage drawn at random, and begun anew until it ends. After every kill, whatever lies
under a final name is compared with what an unbroken run has written.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

STAGES = ("fit", "model", "volume", "section")
RESULTS = {"fit": "model/model.json", "model": "model/model.json", "volume": "volume.zarr", "section": "section.h5ad"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for stage, kills in survived(Path(folder), **vars(options)).items():
            print(f"killed during {stage:<10}{kills:3d} times: resumed, and bit-equal to an unbroken run")


def survived(folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """Kill as often as wanted, and count the kills by stage; raise AssertionError if one did harm."""
    import isost

    random = np.random.default_rng(seed)
    sections = isost.datasets.organ(n_sections=4, cells_per_section=100, n_genes=20)
    isost.io.write(isost.pp.slice_stack(sections, n_comps=5), folder / "s.h5ad")
    process, clock = _begun(folder, "unbroken")
    process.join()
    assert process.exitcode == 0
    lasts = np.diff([*clock[: len(STAGES)], time.monotonic()]).clip(0)
    expected, counted, n_ended = _digests(folder / "unbroken"), Counter(dict.fromkeys(STAGES, 0)), 0
    while counted.total() < kills:
        name = f"round-{n_ended}"
        process, clock = _begun(folder, name)
        stage = int(random.integers(len(STAGES)))
        while process.is_alive() and not clock[stage]:
            time.sleep(0.001)
        process.join(lasts[stage] * random.random())
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), f"the work failed with exit code {process.exitcode}"
        found = _digests(folder / name)
        assert found.items() <= expected.items(), f"not as unbroken: {found.items() - expected.items()}"
        if process.exitcode == 0:
            assert found == expected
            n_ended += 1
        else:
            counted[STAGES[max(i for i in range(len(STAGES)) if clock[i])]] += 1
    return counted


def _begun(folder: Path, name: str) -> tuple[Any, Any]:
    """Begin the work in a process that need not import anything; the clock says when each stage began."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["isost.tl", "isost.datasets", "scanpy", "anndata.experimental", "zarr", __name__])
    clock = context.Array("d", len(STAGES), lock=False)
    process = context.Process(target=work, args=(folder / "s.h5ad", folder / name, clock))
    process.start()
    return process, clock


def work(source: Path, folder: Path, clock: Any) -> None:
    """Do what a kill may end at any moment."""
    import isost
    from isost.generation import _carry

    _carry._MOST_POINTS = 1  # a slab for every gap
    isost.settings.progress = False
    stack = isost.io.read(source)

    def begins(stage: str) -> bool:
        """Note the time, and say whether there is something to do."""
        clock[STAGES.index(stage)] = time.monotonic()
        return not (folder / RESULTS[stage]).exists()

    if begins("fit"):
        kws = {"epochs": 30, "hidden_dim": 16, "n_cells": 20, "expression_shift": 0.5, "adaptive": False}
        trained = isost.tl.fit(stack, checkpoint_dir=folder / "fit", checkpoint_every=2, **kws)
        begins("model")
        trained.save(folder / "model")
    model = isost.IsoST.load(folder / "model")
    if begins("volume"):
        isost.tl.reconstruct(stack, model=model, voxel_size=20, store=folder / "volume.zarr")
    if begins("section"):
        isost.io.write(isost.tl.section(stack, model=model, z=30.0), folder / "section.h5ad")


def _digests(folder: Path) -> dict[str, str]:
    """Digest of everything that lies under a final name, as it reads."""
    import isost

    read: dict[str, Callable[[Path], list[Any]]] = {
        "model": lambda path: [weight.detach() for weight in isost.IsoST.load(path.parent).forward.parameters()],
        "volume": lambda path: _arrays(isost.io.read_volume(path).to_memory()),
        "section": lambda path: _arrays(isost.io.read(path)),
    }
    paths = {stage: folder / RESULTS[stage] for stage in read}
    return {stage: _digest(read[stage](path)) for stage, path in paths.items() if path.exists()}


def _arrays(adata: Any) -> list[Any]:
    labels = [adata.obs[name].astype(str) for name in adata.obs]
    return [adata.X, *labels, *adata.obsm.values(), *adata.layers.values()]


def _digest(arrays: list[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        values = array.toarray() if hasattr(array, "toarray") else np.asarray(array)
        digest.update(repr(values.tolist()).encode() if values.dtype == object else values.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
