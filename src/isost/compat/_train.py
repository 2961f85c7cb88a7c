from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isost._checks import check_at_least
from isost._faults import explained
from isost._logging import logger, step
from isost._settings import settings as session
from isost._writing import whole_file
from isost.tl import as_device, few_threads
from isost.training import LoopSettings, optimize

from ._config import N_NEIGHBORS, Config, load_yaml, read_config
from ._experiment import (
    CONFIG,
    MODEL,
    RESUME_NUMBERS,
    RESUME_TENSORS,
    checkpoints,
    read_record,
    write_json,
    write_weights,
)
from ._modes import HeldDrift, PublishedObjective, as_parts, split_in_order
from ._normalization import csv_digest
from ._tensors import find_slide, read_slide

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from torch import Tensor

    from isost.nn import Drift
    from isost.training import Phase, Progress

    from ._modes import Mode

__all__ = ["biaxial_multi_group_train", "biaxial_train"]


def biaxial_train(
    experiment_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    slide_names: Sequence[str],
    batch_num: int = 1,
    config_file: str | os.PathLike[str] = CONFIG,
    device: str | torch.device | None = None,
    checkpoint_every: int = 20,
    backup_every: int = 5,
    epoch: Sequence[int] = (100, 100, 100),
    mode: Mode = "joint",
    *,
    seed: int = 0,
    resume: bool = True,
    progress: bool | None = None,
) -> None:
    """Train on the files of the published program, and write its files.

    A training that was stopped goes on where its last checkpoint stands, with the same result as one that was not.

    Parameters
    ----------
    experiment_dir
        Folder to write to: ``config.yml``, ``checkpoint_0.pt``, ``checkpoint_1.pt``, … and ``model.pt``, which the
        published program reads; ``resume.safetensors`` and ``resume.json`` for going on.
    data_dir
        Folder of the sections, ``shuffled_{name}.pt`` or ``{name}.pt``.
    slide_names
        The sections in the order of depth, up or down.
    batch_num
        Parts that each section is split into, in file order; every epoch makes one step on each.
    config_file
        The `config.yml`, see `read_config`.
    device
        Where to train; a GPU when None and there is one.
    checkpoint_every
        Epochs between checkpoints, counted in each phase; checkpoints are numbered on through the phases.
    backup_every
        Epochs between lines in the log.
    epoch
        Epochs of each phase. One entry: joint. Two: shape, expression. Three: shape, expression, joint. Four: joint,
        shape, expression, joint.
    mode
        ``"joint"`` trains both networks; ``"shape"`` or ``"coo"``, and ``"expression"`` or ``"seq"``, hold the other
        drift at zero, and leave out the phases in which nothing would learn.
    seed
        Seed of weights and noise. Global random state is not touched.
    resume
        Go on with the training that `experiment_dir` holds; with False a folder that holds one is refused.
    progress
        Whether to show a progress bar; `isost.settings.progress` when None.

    Raises
    ------
    FileExistsError
        If `experiment_dir` holds another training, or any and `resume` is False.
    FileNotFoundError
        If the config or a section's file is missing.
    ValueError
        If a file or a setting is not as it must be; the file is named.
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> isost.compat.biaxial_train("experiments", data_dir, slide_names, config_file="config.yml")
    """
    biaxial_multi_group_train(
        experiment_dir,
        data_dir,
        [slide_names],
        batch_num,
        config_file,
        device,
        checkpoint_every,
        backup_every,
        epoch,
        mode,
        seed=seed,
        resume=resume,
        progress=progress,
    )


@few_threads()
def biaxial_multi_group_train(
    experiment_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    grouped_slide_names: Sequence[Sequence[str]],
    batch_num: int = 1,
    config_file: str | os.PathLike[str] = CONFIG,
    device: str | torch.device | None = None,
    checkpoint_every: int = 20,
    backup_every: int = 5,
    epoch: Sequence[int] = (100, 100, 100),
    mode: Mode = "joint",
    *,
    seed: int = 0,
    resume: bool = True,
    progress: bool | None = None,
) -> None:
    """Train one model on several groups of sections, such as several organs; see `biaxial_train`.

    Every epoch makes one step on each part of each group: `batch_num` times the number of groups.

    Parameters
    ----------
    grouped_slide_names
        The sections of each group, in the order of depth; the same way in all groups.
    experiment_dir, data_dir, batch_num, config_file, device, checkpoint_every, backup_every, epoch, mode
        As those of `biaxial_train`.
    seed, resume, progress
        As those of `biaxial_train`.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError, FloatingPointError
        As `biaxial_train` does.
    """
    folder, groups = Path(experiment_dir), [list(map(str, names)) for names in grouped_slide_names]
    config = read_config(config_file)
    if config.trainer != "IsoST":
        msg = (
            f"{config_file}: training with trainer {config.trainer} also needs the registered image volume "
            f"(image_data_dir, slice_data_dir) and its loss, which isost does not have. Its trained models load and "
            f"infer; to train on the sections alone, say trainer: IsoST"
        )
        raise ValueError(msg)
    check_at_least(1, batch_num=batch_num, checkpoint_every=checkpoint_every, backup_every=backup_every)
    check_at_least(0, seed=seed)
    parts, place = as_parts(mode), as_device(device)
    sections, descending = _read_groups(data_dir, groups, config, batch_num=batch_num)
    objective = PublishedObjective(
        [[section.to(place) for section in group] for group in sections],
        batch_num=batch_num,
        parts=parts,
        settings=config.trajectory_settings(),
    )
    phases = objective.phases(epoch)
    if not phases:
        msg = f"epoch={list(epoch)} with mode={mode!r} leaves nothing to train"
        raise ValueError(msg)
    record: dict[str, Any] = {
        "fingerprint": _fingerprint(config, sections, [batch_num, checkpoint_every, list(epoch), parts, seed]),
        "groups": groups,
        "descending": descending,
        "normalization": csv_digest(data_dir, n_comps=config.gene_dim),
        "epoch": [int(count) for count in epoch],
        "mode": mode,
        "batch_num": batch_num,
        "seed": seed,
    }
    _claim(folder, record, Path(config_file), resume=resume)

    settings = config.model_settings(seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        f, g = settings.drift().to(place), settings.drift().to(place)
    keeper = _Keeper(folder, f, g, phases, record, checkpoint_every=checkpoint_every, backup_every=backup_every)
    loop = LoopSettings(
        epochs=epoch,
        optimizer=config.optimizer_name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        anneal=False,
        seed=seed,
        progress=session.progress if progress is None else progress,
        checkpoint_dir=folder,
        checkpoint_name=RESUME_TENSORS,
        checkpoint_every=checkpoint_every,
        fingerprint=record["fingerprint"],
        sections=groups[0] if len(groups) == 1 else (),
        on_epoch=keeper,
    )
    with step("training"), explained(less="a larger batch_num needs less", kept=loop.kept):
        history = optimize(objective, HeldDrift(f, parts), HeldDrift(g, parts), settings=loop)
    if len(history) < sum(phase.epochs for phase in phases):
        logger.warning("%s has no %s yet: call again to go on from the last checkpoint", folder, MODEL)
        return
    write_weights(folder / MODEL, f, g, iterations=phases[-1].epochs * len(objective.batches()))


@dataclass(frozen=True)
class _Keeper:
    """Writes down a training after each epoch, as often as each thing is wanted."""

    folder: Path
    f: Drift
    g: Drift
    phases: Sequence[Phase]
    record: dict[str, Any]
    checkpoint_every: int
    backup_every: int

    def __call__(self, at: Progress) -> None:
        phase = self.phases[at.phase]
        if at.epoch % self.backup_every == 0:
            logger.info("%s, epoch %d of %d: loss %.6g", phase.name, at.epoch, phase.epochs, at.history[-1]["loss"])
        if at.epoch % self.checkpoint_every == 0:
            earlier = sum(phase.epochs // self.checkpoint_every for phase in self.phases[: at.phase])
            path = self.folder / f"checkpoint_{earlier + at.epoch // self.checkpoint_every - 1}.pt"
            write_weights(path, self.f, self.g, iterations=at.iteration)
        if at.epoch % self.checkpoint_every == 0 or at.epoch == phase.epochs:
            write_json(self.folder / RESUME_NUMBERS, self.record | {"history": at.history})


def _read_groups(
    data_dir: str | os.PathLike[str], groups: Sequence[Sequence[str]], config: Config, *, batch_num: int
) -> tuple[list[list[Tensor]], bool]:
    """Sections of each group, checked, and whether they are given from the highest down."""
    sections = [[read_slide(find_slide(data_dir, n), n_comps=config.gene_dim) for n in names] for names in groups]
    depths = [
        check_order(names, group, batch_num=batch_num, data_dir=data_dir)
        for names, group in zip(groups, sections, strict=True)
    ]
    ways = {group[0] > group[-1] for group in depths}
    if len(ways) != 1:
        msg = "the groups must all run the same way in depth, all up or all down, and there must be one"
        raise ValueError(msg)
    return sections, ways.pop()


def check_order(
    names: Sequence[str], sections: Sequence[Tensor], *, batch_num: int, data_dir: str | os.PathLike[str]
) -> list[float]:
    """Depths of sections, the means of z in each; refuse too few sections or points, and depths out of order."""
    if len(names) < 2:
        msg = f"two or more sections are needed, got {list(names)}"
        raise ValueError(msg)
    for name, section in zip(names, sections, strict=True):
        smallest = min(rows.stop - rows.start for rows in split_in_order(len(section), batch_num))
        if smallest <= N_NEIGHBORS:
            msg = (
                f"{find_slide(data_dir, name)} has {len(section)} points, too few for batch_num={batch_num}: each part "
                f"needs more than {N_NEIGHBORS}"
            )
            raise ValueError(msg)
    depths = [float(section[:, 2].mean(dtype=torch.float64)) for section in sections]
    steps = np.diff(depths)
    if not ((steps > 0).all() or (steps < 0).all()):
        msg = f"the sections {list(names)} lie at depths {depths}; give them in the order of depth, up or down"
        raise ValueError(msg)
    return depths


def _fingerprint(config: Config, sections: Sequence[Sequence[Tensor]], numbers: list[Any]) -> str:
    """Digest of all that the weights depend on, so that another training is not continued."""
    digest = hashlib.sha256(repr((config, session.precision, numbers)).encode())
    for group in sections:
        for section in group:
            digest.update(repr(tuple(section.shape)).encode())
            digest.update(section.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _yaml(path: Path) -> Any:
    """Content of a config, in whatever layout: the published program writes it anew when it infers."""
    try:
        return load_yaml(path)
    except ValueError:
        return path.read_bytes()


def _claim(folder: Path, record: dict[str, Any], config_file: Path, *, resume: bool) -> None:
    """Make the folder this training's own, or refuse one that holds another's files."""
    found = [folder / name for name in (MODEL, RESUME_TENSORS, RESUME_NUMBERS) if (folder / name).exists()]
    found += checkpoints(folder)
    if found and not resume:
        msg = f"{folder} holds a training already ({found[0].name}): resume it, or choose another folder"
        raise FileExistsError(msg)
    if found and read_record(folder).get("fingerprint") != record["fingerprint"]:
        msg = (
            f"{found[0]} is of another training (other sections, config, epoch, mode, batch_num, seed or precision, or "
            f"not made here): choose another folder, nothing was changed"
        )
        raise FileExistsError(msg)
    kept = folder / CONFIG
    if kept.is_file() and _yaml(kept) != _yaml(config_file):
        msg = f"{kept} says something else than {config_file}: choose another folder, nothing was changed"
        raise FileExistsError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    if not kept.is_file():
        with whole_file(kept) as unfinished:
            shutil.copyfile(config_file, unfinished)
    if not found:
        write_json(folder / RESUME_NUMBERS, record | {"history": []})
