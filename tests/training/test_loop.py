from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isost._processes import Processes
from isost.field import LocalLinear
from isost.nn import Drift
from isost.training import (
    BridgeObjective,
    Displacements,
    LoopSettings,
    Phase,
    WeightGroup,
    initialize_drift,
    optimize,
    phases,
    section_paths,
)
from isost.training._loop import Progress, _annealed, _averaged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass
class _Rotation:
    """A toy: two linear maps are to rotate their input; it can break off or go wrong at any step."""

    n_batches: int = 3
    lr_factor: float = 1.0
    interrupt_at: int | None = None
    nan_at: int | None = None
    steep_at: int | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)

    def phases(self, epochs: Any) -> list[Phase]:
        return phases(epochs)

    def weight_groups(self, forward: Drift, backward: Drift | None) -> list[WeightGroup]:
        parts = [part for part in (forward, backward) if part is not None]
        return [WeightGroup(list(part.parameters()), lr_factor=self.lr_factor) for part in parts]

    def batches(self, *, generator: torch.Generator | None = None) -> list[list[Tensor] | None]:
        return [[rows] for rows in torch.randperm(4 * self.n_batches, generator=generator).split(4)]

    def loss(
        self,
        forward: Drift,
        backward: Drift | None,
        *,
        iteration: int,
        phase: Phase,
        noise_seed: int,
        rows: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        step = len(self.seen)
        self.seen.append({"iteration": iteration, "phase": phase.name, "noise_seed": noise_seed, "rows": rows})
        if step == self.interrupt_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(noise_seed)) + rows[0][:, None] / 10
        error = sum((part(x) - x.roll(1, dims=1)).square().mean() for part in (forward, backward) if part is not None)
        if step == self.nan_at:
            error = error * torch.nan
        if step == self.steep_at:
            error = error + (forward.weight * 0).sum().sqrt()  # finite, but its gradient is not
        return error, {"loss": error.item(), "twice": 2 * error.item()}


def _network(seed: int) -> Any:
    network = nn.Linear(3, 3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return network


def _settings(**kws: Any) -> LoopSettings:
    return LoopSettings(**{"epochs": [4, 3], "lr": 0.05, "progress": False, **kws})


def _weights(*networks: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for network in networks for weight in network.parameters()])


def _trained(objective: _Rotation | None = None, **kws: Any) -> tuple[Tensor, list[dict[str, Any]]]:
    networks = _network(0), _network(1)
    history = optimize(objective or _Rotation(), *networks, settings=_settings(**kws))
    return _weights(*networks), history


def test_loss_falls_and_every_epoch_is_written_down() -> None:
    _, history = _trained(epochs=[30, 30])
    assert [row["epoch"] for row in history] == list(range(1, 61))
    assert [row["phase"] for row in history] == ["shape"] * 30 + ["expression"] * 30
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert all(row["twice"] == pytest.approx(2 * row["loss"]) for row in history)


def test_history_is_the_mean_over_the_steps_of_an_epoch() -> None:
    objective = _Rotation(n_batches=1)
    _, (one,) = _trained(objective, epochs=1)
    network = _network(0), _network(1)
    seen = objective.seen[0]
    loss, _ = objective.loss(*network, **{**seen, "phase": Phase("joint", 1, 1, 1)})
    assert one["loss"] == pytest.approx(loss.item())
    _, (three,) = _trained(epochs=1, lr=0.0, optimizer="SGD")
    alone = _Rotation()
    _trained(alone, epochs=1, lr=0.0, optimizer="SGD")
    losses = [alone.loss(*network, **{**seen, "phase": Phase("joint", 1, 1, 1)})[0].item() for seen in alone.seen[:3]]
    assert three["loss"] == pytest.approx(np.mean(losses))


def test_iterations_restart_in_each_phase_and_no_noise_repeats() -> None:
    objective = _Rotation()
    _trained(objective)
    assert [seen["iteration"] for seen in objective.seen] == [*range(12), *range(9)]
    assert [seen["phase"] for seen in objective.seen] == ["shape"] * 12 + ["expression"] * 9
    assert len({seen["noise_seed"] for seen in objective.seen}) == 21
    for start in range(0, 21, 3):
        rows = torch.cat([seen["rows"][0] for seen in objective.seen[start : start + 3]])
        assert torch.equal(rows.sort().values, torch.arange(12))


def test_same_seed_same_weights() -> None:
    first, again, other = (_trained(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert not torch.equal(first[0], other[0])


def test_forward_alone() -> None:
    network = _network(0)
    history = optimize(_Rotation(), network, None, settings=_settings(epochs=[30, 30]))
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]


def test_global_random_state_is_not_touched() -> None:
    networks = _network(0), _network(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - what is asked about
    optimize(_Rotation(), *networks, settings=_settings())
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


@pytest.mark.parametrize("optimizer", ["NAdam", "SGD"])
@pytest.mark.parametrize("interrupt_at", [8, 13, 20])  # middle of the first phase; its end saved; middle of the second
def test_continued_training_is_bit_equal(tmp_path: Path, interrupt_at: int, optimizer: str) -> None:
    unbroken, history = _trained(optimizer=optimizer)
    keep = {"checkpoint_dir": tmp_path, "checkpoint_every": 2, "optimizer": optimizer}
    _trained(_Rotation(interrupt_at=interrupt_at), **keep)
    networks = _network(5), _network(6)  # whatever they held before, the checkpoint counts
    objective = _Rotation()
    assert optimize(objective, *networks, settings=_settings(**keep)) == history
    assert torch.equal(_weights(*networks), unbroken)
    assert 0 < len(objective.seen) < 21
    assert optimize(objective, *networks, settings=_settings(**keep)) == history  # nothing is left to do
    assert torch.equal(_weights(*networks), unbroken)


def test_every_epoch_is_told_before_its_checkpoint(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int, bool]] = []

    def told(at: Progress) -> None:
        seen.append((at.phase, at.epoch, len(at.history), (tmp_path / "resume.safetensors").exists()))

    keep = {"checkpoint_dir": tmp_path, "checkpoint_name": "resume.safetensors", "checkpoint_every": 2}
    _, history = _trained(on_epoch=told, **keep)
    assert [total for _, _, total, _ in seen] == list(range(1, len(history) + 1))
    assert [saved for *_, saved in seen[:3]] == [False, False, True]
    assert {path.name for path in tmp_path.iterdir()} == {"resume.safetensors"}


def test_continued_bridge_is_bit_equal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    positions = [rng.random((40, 2)) for _ in range(3)]
    paths = section_paths(
        positions,
        [np.c_[p, p[:, :1]] + k for k, p in enumerate(positions)],
        np.array([0.0, 0.1, 0.2]),
        field=[LocalLinear(p, np.c_[p, p[:, :1]] + k, n_cells=9) for k, p in enumerate(positions)].__getitem__,
        displacements=Displacements(
            up=[np.full((40, 2), 0.1)] * 2,
            down=[np.full((40, 2), -0.1)] * 2,
        ),
        expression_shift=1.0,
    )

    def trained(epochs: int, **kws: Any) -> Tensor:
        drifts = []
        for seed, direction in enumerate(paths):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                drifts.append(Drift(3, hidden_dim=8, unet_depth=1, planar=True))
            initialize_drift(drifts[-1], direction)
        objective = BridgeObjective(*paths, batch_size=25)
        optimize(objective, *drifts, settings=_settings(epochs=epochs, anneal=False, **kws))
        return _weights(*drifts)

    trained(2, checkpoint_dir=tmp_path)
    assert torch.equal(trained(5, checkpoint_dir=tmp_path), trained(5))


def test_interruption_leaves_a_usable_model(caplog: pytest.LogCaptureFixture) -> None:
    whole = _Rotation()
    networks = _network(0), _network(1)
    optimize(whole, *networks, settings=_settings(epochs=2, anneal=False))
    wanted = _weights(*networks)

    weights, history = _trained(_Rotation(interrupt_at=6), epochs=50, anneal=False)
    assert "interrupted after 2 of 50 epochs" in caplog.text
    assert len(history) == 2
    assert torch.equal(weights, wanted)


@pytest.mark.parametrize("fault", ["nan_at", "steep_at"])
def test_a_loss_that_is_no_number_is_named(fault: str) -> None:
    networks, stopped = (_network(0), _network(1)), (_network(0), _network(1))
    with pytest.raises(FloatingPointError, match=r"epoch 2 of the expression phase; a lower .* lr=0\.05"):
        optimize(_Rotation(**{fault: 16}), *networks, settings=_settings())
    optimize(_Rotation(interrupt_at=16), *stopped, settings=_settings())
    assert torch.equal(_weights(*networks), _weights(*stopped))


def test_only_the_first_of_several_processes_writes_and_none_stops_alone(tmp_path: Path) -> None:
    networks = _network(0), _network(1)
    for rank, files in ((1, []), (0, ["checkpoint.safetensors"])):
        with pytest.raises(KeyboardInterrupt):
            optimize(
                _Rotation(interrupt_at=13),
                *networks,
                settings=_settings(checkpoint_dir=tmp_path, checkpoint_every=2),
                processes=Processes(rank, 2),
            )
        assert [path.name for path in tmp_path.iterdir()] == files


def test_weights_that_no_process_moves_keep_no_gradient() -> None:
    """One whose gradient is known elsewhere alone gets it; one without any gradient stays without, and stays."""

    @dataclass(frozen=True)
    class Two(Processes):
        def mean(self, values: Tensor) -> Tensor:
            other = torch.zeros_like(values)
            other[:3], other[6] = 4.0, 1.0  # the first weight's gradient, and that it has one
            return (values + other) / 2

    weights = [torch.ones(3, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.NAdam(weights)
    assert _averaged(optimizer, {"loss": 3.0}, Two(0, 2)) == {"loss": 1.5}
    torch.testing.assert_close(weights[0].grad, torch.full((3,), 2.0))
    assert weights[1].grad is None


def test_nothing_to_train_on_is_named() -> None:
    class Empty(_Rotation):
        def batches(self, *, generator: torch.Generator | None = None) -> list[list[Tensor] | None]:
            return []

    with pytest.raises(ValueError, match="raise batch_size"):
        _trained(Empty())


def test_learning_rate_rises_and_falls_in_each_phase() -> None:
    assert _annealed(0.0) == 0.04
    assert _annealed(0.05) == pytest.approx(0.5)
    assert _annealed(0.1) == 1
    assert _annealed(0.55) == pytest.approx(0.5)
    assert _annealed(1.0) == pytest.approx(0, abs=1e-12)
    rates = [_annealed(t) for t in np.linspace(0.1, 1, 20)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("anneal", [True, False])
def test_learning_rate_is_what_the_optimizer_uses(anneal: bool) -> None:
    class Ramp(_Rotation):
        """Loss whose gradient is 1 everywhere."""

        def loss(self, forward: Drift, backward: Drift | None, **_: Any) -> tuple[Tensor, dict[str, float]]:
            value = _sum(forward) + _sum(backward)
            return value, {"loss": value.item()}

    networks = _network(0), _network(1)
    before = _weights(*networks)
    settings = _settings(epochs=[2, 1], anneal=anneal, optimizer="SGD", weight_decay=0.0)
    optimize(Ramp(lr_factor=0.5), *networks, settings=settings)
    shares = [_annealed(i / 6) for i in range(6)] + [_annealed(i / 3) for i in range(3)] if anneal else [1] * 9
    torch.testing.assert_close(before - _weights(*networks), torch.full_like(before, 0.025 * math.fsum(shares)))


def _sum(network: nn.Module) -> Tensor:
    return torch.stack([weight.sum() for weight in network.parameters()]).sum()


def test_progress_can_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    _trained()
    assert capsys.readouterr().err == ""
    _trained(progress=True)
    shown = capsys.readouterr().err
    assert "fit" in shown
    assert "7/7" in shown
