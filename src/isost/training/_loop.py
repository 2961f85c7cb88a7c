from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from tqdm.auto import tqdm

from isost._logging import logger
from isost._processes import ALONE, Processes

from ._checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from isost.nn import Drift

    from ._schedule import Phase

__all__ = ["LoopSettings", "Objective", "Progress", "WeightGroup", "optimize"]

_LAST_GOOD = "last_good.safetensors"


class WeightGroup(NamedTuple):
    """Weights, and the factor of the learning rate that suits the size of what they have to put out."""

    weights: list[nn.Parameter]
    lr_factor: float = 1.0


class Objective(Protocol):
    """What the loop asks of an objective; `BridgeObjective` and `TrajectoryObjective` are two."""

    def phases(self, epochs: Any) -> list[Phase]:
        """Phases of training, from the number of epochs in each."""
        ...

    def batches(self, *, generator: torch.Generator | None = None) -> Sequence[Any]:
        """Split one epoch into what each step sees; `loss` gets it as `rows`."""
        ...

    def weight_groups(self, forward: Drift, backward: Drift | None) -> list[WeightGroup]:
        """Weights to train, in groups that share a learning rate."""
        ...

    def loss(
        self,
        forward: Drift,
        backward: Drift | None,
        *,
        iteration: int,
        phase: Phase,
        noise_seed: int,
        rows: Any = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one step, and numbers to log, ``loss`` among them.

        Of several processes each has its own loss and numbers; what counts is their mean over all.
        """
        ...

    def in_gap(self, gap: int, rows: Any) -> Any:
        """Those `rows` of a step that lie on the two sides of one gap; None where that is too few for a loss."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How an objective is minimised.

    Attributes
    ----------
    epochs
        Epochs of each phase, in whatever form the objective takes them.
    optimizer
        Name of an optimiser in `torch.optim`.
    lr
        Learning rate.
    weight_decay
        Weight decay.
    anneal
        Raise the learning rate over the first tenth of the steps and lower it to nothing by a cosine, in each phase.
    seed
        Seed of tiles and noise.
    progress
        Whether to show a progress bar.
    checkpoint_dir
        Folder for a checkpoint; training continues from it where one is there.
    checkpoint_name
        Name of that file.
    checkpoint_every
        Epochs between checkpoints.
    fingerprint
        Of the data and settings; a checkpoint with another one is refused.
    sections
        Names of the sections in the objective's order, to name a gap in which the loss is no number.
    on_epoch
        Called after every epoch, before a checkpoint is written.
    """

    epochs: Any
    optimizer: str = "NAdam"
    lr: float = 9e-3
    weight_decay: float = 1e-8
    anneal: bool = True
    seed: int = 0
    progress: bool = True
    checkpoint_dir: Path | None = None
    checkpoint_name: str = "checkpoint.safetensors"
    checkpoint_every: int = 50
    fingerprint: str = ""
    sections: Sequence[str] = ()
    on_epoch: Callable[[Progress], None] | None = None

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint's file."""
        return self.checkpoint_dir / self.checkpoint_name if self.checkpoint_dir else None

    def kept(self) -> str:
        """Say what is left of a training that stops now."""
        if self.checkpoint is not None and self.checkpoint.exists():
            return f"{self.checkpoint} holds the training up to its last checkpoint, from which the same call goes on"
        return "no checkpoint was written yet" if self.checkpoint else "nothing is kept without checkpoint_dir="


@dataclass
class Progress:
    """Where training stands: all that a checkpoint must hold beside weights and optimiser.

    Attributes
    ----------
    phase
        Number of the phase, from 0.
    epoch, iteration
        Epochs and steps made in this phase.
    step
        Steps made over all phases.
    history
        One dict an epoch, see `optimize`.
    """

    phase: int = 0
    epoch: int = 0
    iteration: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def optimize(
    objective: Objective,
    forward: Drift,
    backward: Drift | None,
    *,
    settings: LoopSettings,
    processes: Processes = ALONE,
) -> list[dict[str, Any]]:
    """Train the drifts on an objective.

    Ctrl-C ends training early and leaves the weights as they are. Of several processes it ends the program.

    Parameters
    ----------
    objective
        What to minimise.
    forward, backward
        The drifts of the two directions, trained in place; None leaves the backward direction out.
    settings
        How to minimise it.
    processes
        Those that train together, each with an objective that sees its share; they begin with the same weights, and
        the first alone shows progress and writes checkpoints.

    Returns
    -------
    One dict an epoch: its number, its phase, and the loss and its parts, means over the epoch's steps.

    Raises
    ------
    FloatingPointError
        When the loss or its gradient is no longer finite; the gaps where that is so are named. The weights are those of
        the last good step, which are also written beside the checkpoint, as ``last_good.safetensors``.
    ValueError
        When the objective finds nothing to train on, or the checkpoint is that of another fit.
    """
    modules: dict[str, nn.Module] = {"forward": forward}
    if backward is not None:
        modules["backward"] = backward
    optimizer: torch.optim.Optimizer = getattr(torch.optim, settings.optimizer)(
        [
            {"params": group.weights, "lr": settings.lr * group.lr_factor, "lr_factor": group.lr_factor}
            for group in objective.weight_groups(forward, backward)
        ],
        weight_decay=settings.weight_decay,
        foreach=True,  # all weights at once: as many small ones as these cost more to visit than to change
    )
    path = settings.checkpoint
    kept = {"fingerprint": settings.fingerprint}
    at = Progress()
    if path is not None and processes.of_first(path.exists()):
        at = _resumed(path, modules, optimizer, settings)
        logger.info("training continues from %s, step %d", path, at.step)
    phases = objective.phases(settings.epochs)
    total = sum(phase.epochs for phase in phases)
    shown = settings.progress and processes.rank == 0
    with tqdm(total=total, initial=len(at.history), disable=not shown, desc="fit", unit="epoch") as bar:
        try:
            while at.phase < len(phases):
                phase = phases[at.phase]
                while at.epoch < phase.epochs:
                    numbers = _epoch(objective, forward, backward, optimizer, phase, at, settings, processes)
                    at.epoch += 1
                    at.history.append({"epoch": len(at.history) + 1, "phase": phase.name, **numbers})
                    bar.set_postfix(phase=phase.name, loss=f"{numbers['loss']:.3g}", refresh=False)
                    bar.update()
                    if settings.on_epoch is not None:
                        settings.on_epoch(at)
                    if at.epoch % settings.checkpoint_every == 0 or at.epoch == phase.epochs:
                        if path is not None and processes.rank == 0:
                            save_checkpoint(path, modules=modules, optimizer=optimizer, progress=vars(at) | kept)
                        logger.info("epoch %d of %d: loss %.6g", len(at.history), total, numbers["loss"])
                at.phase, at.epoch, at.iteration = at.phase + 1, 0, 0
        except KeyboardInterrupt:
            if processes.count > 1:  # the others have not stopped at the same step, if at all
                raise
            logger.warning(
                "training was interrupted after %d of %d epochs; the model is usable", len(at.history), total
            )
        except FloatingPointError:
            if path is not None and processes.rank == 0:
                last = path.with_name(_LAST_GOOD)
                save_checkpoint(last, modules=modules, optimizer=optimizer, progress=vars(at) | kept)
            raise
    return at.history


def _resumed(
    path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, settings: LoopSettings
) -> Progress:
    """Read where training stood, weights and optimiser included; refuse what another fit left."""
    msg = f"{path} was left by a fit to other sections or with other settings: delete it, or use another folder"
    try:
        progress = load_checkpoint(path, modules=modules, optimizer=optimizer)
        same = progress.pop("fingerprint", "") == settings.fingerprint
        at = Progress(**progress)
        counts = (at.phase, at.epoch, at.iteration, at.step)
        same = same and all(type(count) is int and count >= 0 for count in counts) and isinstance(at.history, list)
    except Exception as error:  # whatever a damaged file makes a library raise
        raise ValueError(msg) from error
    if not same:
        raise ValueError(msg)
    return at


def _epoch(
    objective: Objective,
    forward: Drift,
    backward: Drift | None,
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    at: Progress,
    settings: LoopSettings,
    processes: Processes,
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(_mixed(settings.seed, at.step))
    batches = objective.batches(generator=generator)
    if not batches:
        msg = f"no batch of the {phase.name} phase has enough cells of two neighbouring sections: raise batch_size"
        raise ValueError(msg)
    sums: dict[str, float] = {}
    for i, rows in enumerate(batches):
        done = (at.epoch + i / len(batches)) / phase.epochs
        for group in optimizer.param_groups:  # in every step, as a checkpoint brings its own along
            group["lr"] = settings.lr * group["lr_factor"] * (_annealed(done) if settings.anneal else 1.0)
        noise_seed = int(torch.randint(2**62, (), generator=generator))

        differentiate = partial(
            _differentiate,
            *(objective, forward, backward, optimizer, processes),
            iteration=at.iteration,
            phase=phase,
            noise_seed=noise_seed,
        )
        numbers, is_finite = differentiate(rows=rows)
        if not is_finite:
            own = [objective.in_gap(gap, rows) for gap in range(len(settings.sections) - 1)]
            wrong = [gap for gap, part in enumerate(own) if part is not None and not differentiate(rows=part)[1]]
            msg = (
                f"the loss is {numbers['loss']} or has no finite gradient in epoch {at.epoch + 1} of the {phase.name} "
                f"phase{_between(wrong, settings.sections)}; a lower learning rate than lr={settings.lr} usually mends "
                f"it; {settings.kept()}"
            )
            raise FloatingPointError(msg)
        optimizer.step()
        at.iteration += 1
        at.step += 1
        for name, value in numbers.items():
            sums[name] = sums.get(name, 0.0) + value / len(batches)
    return sums


def _differentiate(
    objective: Objective,
    forward: Drift,
    backward: Drift | None,
    optimizer: torch.optim.Optimizer,
    processes: Processes,
    **kws: Any,
) -> tuple[dict[str, float], bool]:
    """Find the gradient of one step; return the step's numbers, and whether loss and gradient are finite."""
    loss, numbers = objective.loss(forward, backward, **kws)
    optimizer.zero_grad()
    if loss.requires_grad:  # a process may have no share in a step
        loss.backward()  # type: ignore[no-untyped-call]
    if processes.count > 1:
        numbers = _averaged(optimizer, numbers, processes)
    return numbers, math.isfinite(numbers["loss"]) and _finite_gradient(optimizer)


def _between(gaps: Sequence[int], sections: Sequence[str]) -> str:
    """Say which gaps are meant."""
    if len(gaps) == len(sections) - 1 > 1:
        return ", in every gap"
    return "".join(f", between sections {sections[gap]!r} and {sections[gap + 1]!r}" for gap in gaps)


def _averaged(optimizer: torch.optim.Optimizer, numbers: dict[str, float], processes: Processes) -> dict[str, float]:
    """Give every weight the mean of its gradients over all processes, and return the mean of the numbers.

    All in one message of some hundred thousand floats a step. `DistributedDataParallel` does not do here: weights
    without a gradient in any process must stay without one, lest momentum and decay move them, and a process may have
    no share in a step at all.
    """
    weights = _weights(optimizer)
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    present = gradients[0].new_tensor([weight.grad is not None for weight in weights])
    values = gradients[0].new_tensor(list(numbers.values()))
    parts = [*map(torch.flatten, gradients), present, values]
    *gradients, present, values = processes.mean(torch.cat(parts)).split([len(part) for part in parts])
    for weight, gradient, anywhere in zip(weights, gradients, present.tolist(), strict=True):
        weight.grad = gradient.view_as(weight) if anywhere else None
    return dict(zip(numbers, values.tolist(), strict=True))


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _finite_gradient(optimizer: torch.optim.Optimizer) -> bool:
    sums = [weight.grad.sum() for weight in _weights(optimizer) if weight.grad is not None]
    return bool(torch.stack(sums).isfinite().all())


def _annealed(done: float) -> float:
    """Share of the learning rate when a share of the phase is done."""
    rise = 0.1
    return max(done / rise, 0.04) if done < rise else 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


def _mixed(seed: int, step: int) -> int:
    """One seed from a seed and a step: runs with neighbouring seeds share no draws."""
    return (seed * 1_000_003 + step) % 2**63
