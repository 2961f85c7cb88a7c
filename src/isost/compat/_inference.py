from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from isost._logging import step
from isost._settings import settings as session
from isost._untrusted import untrusted
from isost._writing import whole_file
from isost.sde import GaussianNoise, depth_grid, walk
from isost.tl import as_device, few_threads

from ._experiment import MODEL, Weights, read_json, read_record, read_weights, write_json
from ._modes import HeldDrift, as_parts, split_in_order
from ._normalization import csv_digest
from ._tensors import find_slide, read_slide
from ._train import check_order

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from isost.nn import Drift

    from ._modes import Mode

__all__ = ["fine_inference", "frame_paths"]

RECORD = "frames.json"


def frame_paths(result_dir: str | os.PathLike[str]) -> list[Path]:
    """Frames of an inference, ``0_forward.npy``, ``1_forward.npy``, …, by their number.

    Raises
    ------
    FileNotFoundError
        If there is none, or one between is missing.
    """
    numbered = {
        int(match[1]): path
        for path in Path(result_dir).glob("*_forward.npy")
        if (match := re.fullmatch(r"(\d+)_forward\.npy", path.name))
    }
    if not numbered:
        msg = f"{result_dir} holds no frames such as 0_forward.npy: call isost.compat.fine_inference first"
        raise FileNotFoundError(msg)
    with untrusted(Path(result_dir) / RECORD):
        n_frames = max(int(read_json(Path(result_dir) / RECORD).get("n_frames", 0)), max(numbered) + 1)
    missing = next((number for number in range(n_frames) if number not in numbered), None)
    if missing is not None:
        msg = f"{result_dir} lacks the frame {missing}_forward.npy, of {n_frames}; call fine_inference again"
        raise FileNotFoundError(msg)
    return [numbered[number] for number in range(n_frames)]


@few_threads()
def fine_inference(
    experiment_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    u_name_list: Sequence[str],
    mode: Mode = "joint",
    defined_d: float | None = None,
    result_dir: str | os.PathLike[str] = "result",
    batch_num: int = 1,
    device: str | torch.device | None = None,
    *,
    seed: int = 0,
    resume: bool = True,
    progress: bool | None = None,
) -> list[Path]:
    """Carry sections through the gaps between them by a trained model, and write the frames met on the way.

    A gap is walked in n = round(gap / `defined_d`) steps. Of each gap there is its first section, then n − 1 frames
    between, and of the last one also its last section. A frame between holds the points of the first section carried
    forward, then those of the second carried back; the first alone where the config says ``dual: false``.

    Parameters
    ----------
    experiment_dir
        Folder with ``config.yml`` and ``model.pt``, made here or by the published program.
    data_dir
        Folder of the sections, ``shuffled_{name}.pt`` or ``{name}.pt``.
    u_name_list
        The sections in the order of depth, the way they were trained in.
    mode
        ``"joint"``, or ``"shape"`` (``"coo"``) or ``"expression"`` (``"seq"``), which hold the other drift at zero.
    defined_d
        Wanted length of a step in z; `delta_d` of the config when None.
    result_dir
        Folder to write to: ``0_forward.npy``, ``1_forward.npy``, …, arrays (points, 3 + G) float32 in the normalised
        units of the sections, and ``frames.json``.
    batch_num
        Parts that each section is split into, in file order, each carried by itself: as many as thin the sections
        as those of the training were.
    device
        Where to compute; a GPU when None and there is one.
    seed
        Seed of the noise. Global random state is not touched.
    resume
        Keep the frames that this very inference has left in `result_dir`; with False any frame there is refused.
    progress
        Whether to show a progress bar; `isost.settings.progress` when None.

    Returns
    -------
    Paths of the frames.

    Raises
    ------
    FileExistsError
        If `result_dir` holds frames of another inference, or any and `resume` is False.
    FileNotFoundError
        If a file of the model or a section is missing.
    ValueError
        If a file or a setting is not as it must be; the file is named.

    Examples
    --------
    >>> isost.compat.fine_inference("experiments", data_dir, slide_names, "joint", 0.01, "result", 1)
    """
    weights, parts, place = read_weights(experiment_dir), as_parts(mode), as_device(device)
    delta_d = weights.settings.delta_z if defined_d is None else float(defined_d)
    if not (np.isfinite(delta_d) and delta_d > 0) or batch_num < 1 or seed < 0:
        msg = f"defined_d must be positive, batch_num at least 1, seed at least 0: {defined_d=}, {batch_num=}, {seed=}"
        raise ValueError(msg)
    names = [str(name) for name in u_name_list]
    sections = [read_slide(find_slide(data_dir, name), n_comps=weights.settings.n_comps) for name in names]
    depths = check_order(names, sections, batch_num=batch_num, data_dir=data_dir)
    _check_same_set(experiment_dir, data_dir, descending=depths[0] > depths[-1], n_comps=weights.settings.n_comps)
    grids = [depth_grid(a, b, delta_d, minimum=0) for a, b in pairwise(depths)]
    first = np.cumsum([0, *(max(len(grid) - 1, 1) for grid in grids)])
    out = Path(result_dir)
    n_frames = int(first[-1]) + 1
    record = {
        "fingerprint": _fingerprint(weights, sections, [parts, delta_d, batch_num, seed]),
        "n_frames": n_frames,
        "experiment": str(Path(experiment_dir).resolve()),
        "slides": names,
        "normalization": csv_digest(data_dir),
        "defined_d": delta_d,
        "seed": seed,
    }
    _claim(out, record, resume=resume)
    paths = [out / f"{number}_forward.npy" for number in range(n_frames)]
    carrier = _Carrier(weights, sections, parts=parts, batch_num=batch_num, seed=seed, device=place)
    hidden = not (session.progress if progress is None else progress)
    with step("inference") as notes, tqdm(total=len(paths), disable=hidden, desc="infer", unit="frame") as bar:
        for gap, grid in enumerate(grids):
            own = paths[first[gap] : first[gap + 1]]
            if not all(path.is_file() for path in own):
                for path, frame in zip(own, carrier.frames(gap, grid), strict=True):
                    _save(path, frame)
            bar.update(len(own))
        _save(paths[-1], sections[-1].numpy())
        bar.update()
        notes.append(f"{len(paths)} frames in {out}")
    return paths


class _Carrier:
    """Carries the sections on both sides of a gap to the frames between them."""

    def __init__(
        self,
        weights: Weights,
        sections: Sequence[Tensor],
        *,
        parts: Any,
        batch_num: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.settings = weights.settings
        self.drifts = [HeldDrift(drift, parts).to(device) for drift in (weights.f, weights.g)]
        self.sections, self.batch_num, self.device = sections, batch_num, device
        sigma = self.settings.sigma
        noisy = any(sigma)
        self.sigma = torch.tensor([*sigma[:3], *[sigma[3]] * self.settings.n_comps], device=device) if noisy else None
        self.noise = GaussianNoise(seed) if noisy else None

    def frames(self, gap: int, grid: Tensor) -> list[NDArray[np.float32]]:
        """First section of a gap, and the n − 1 frames between it and the next."""
        first = self.sections[gap].numpy()
        if len(grid) < 3:
            return [first]
        carried = self._carried(gap, gap, self.drifts[0], grid[:-1])
        if self.settings.dual:
            back = self._carried(gap, gap + 1, self.drifts[1], grid.flip(0)[:-1])
            carried = [np.concatenate(pair) for pair in zip(carried, reversed(back), strict=True)]
        return [first, *carried]

    def _carried(self, gap: int, section: int, drift: Drift, grid: Tensor) -> list[NDArray[np.float32]]:
        """States of all parts of a section after each step along `grid`, in file order."""
        state = self.sections[section].to(self.device)
        blocks = [state[rows] for rows in split_in_order(len(state), self.batch_num)]
        first_id = (2 * gap + (section > gap)) * self.batch_num
        with torch.inference_mode():
            steps = walk(
                drift,
                blocks,
                [grid] * len(blocks),
                sigma=self.sigma,
                noise=self.noise,
                block_ids=range(first_id, first_id + len(blocks)),
            )
            return [torch.cat([states[block] for block in range(len(blocks))]).cpu().numpy() for _, states in steps]


def _check_same_set(
    experiment_dir: str | os.PathLike[str], data_dir: str | os.PathLike[str], *, descending: bool, n_comps: int
) -> None:
    """Refuse sections that are not normalised as those the model was trained on, or run the other way."""
    record, digest = read_record(experiment_dir), csv_digest(data_dir, n_comps=n_comps)
    if record.get("descending", descending) != descending:
        msg = f"{Path(experiment_dir) / MODEL} was trained on sections in the opposite order of depth; give them so"
        raise ValueError(msg)
    if digest and record.get("normalization", "") not in ("", digest):
        msg = (
            f"min_dic.csv and scale_dic.csv in {data_dir} are not those of the sections that "
            f"{Path(experiment_dir) / MODEL} was trained on"
        )
        raise ValueError(msg)


def _fingerprint(weights: Weights, sections: Sequence[Tensor], numbers: list[Any]) -> str:
    digest = hashlib.sha256(repr((weights.settings, session.precision, numbers)).encode())
    for drift in (weights.f, weights.g):
        for tensor in drift.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    for section in sections:
        digest.update(section.numpy().tobytes())
    return digest.hexdigest()


def _claim(out: Path, record: dict[str, Any], *, resume: bool) -> None:
    found = next(iter(sorted(out.glob("[!.]*_forward.npy"))), None)  # hidden are those that a kill left unfinished
    if found is not None and not resume:
        msg = f"{out} holds frames already ({found.name}): resume them, or choose another folder"
        raise FileExistsError(msg)
    if found is not None and read_json(out / RECORD).get("fingerprint") != record["fingerprint"]:
        msg = (
            f"{found} is of another inference (other model, sections, defined_d, mode, batch_num, seed or precision, "
            f"or not made here): choose another folder, nothing was changed"
        )
        raise FileExistsError(msg)
    write_json(out / RECORD, record)


def _save(path: Path, frame: NDArray[np.float32]) -> None:
    with whole_file(path) as unfinished:
        np.save(unfinished, frame)
