from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from isost.nn import Drift
from isost.training._checkpoint import load_checkpoint, save_checkpoint
from isost.training._schedule import Phase
from isost.training._trajectory import TrajectoryObjective, TrajectorySettings

if TYPE_CHECKING:
    from pathlib import Path


def _network(seed: int, *, width: int = 4, dtype: torch.dtype = torch.float32) -> nn.Module:
    network = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 3)).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return network


def _train(network: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator, n_steps: int) -> None:
    dtype = next(network.parameters()).dtype
    for _ in range(n_steps):
        x = torch.randn(16, 3, generator=generator).to(dtype)
        optimizer.zero_grad()
        (network(x) - x.roll(1, dims=1)).square().mean().backward()
        optimizer.step()


def _optimizer(name: str, network: nn.Module) -> torch.optim.Optimizer:
    settings = {"momentum": 0.9} if name == "SGD" else {"weight_decay": 1e-8}
    return getattr(torch.optim, name)(network.parameters(), lr=0.01, **settings)


@pytest.mark.parametrize("name", ["NAdam", "Adam", "AdamW", "SGD"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resumed_training_is_bit_equal(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    network, generator = _network(0, dtype=dtype), torch.Generator().manual_seed(5)
    optimizer = _optimizer(name, network)
    _train(network, optimizer, generator, 7)
    progress = {"epoch": 7, "phase": 1, "history": [{"loss": 0.1 + 0.2}], "generator": generator.get_state()}
    save_checkpoint(tmp_path / "run" / "state", modules={"net": network}, optimizer=optimizer, progress=progress)
    _train(network, optimizer, generator, 9)

    resumed, other = _network(1, dtype=dtype), torch.Generator()
    optimizer = _optimizer(name, resumed)
    found = load_checkpoint(tmp_path / "run" / "state", modules={"net": resumed}, optimizer=optimizer)
    other.set_state(found.pop("generator"))
    assert found == {"epoch": 7, "phase": 1, "history": [{"loss": 0.1 + 0.2}]}
    _train(resumed, optimizer, other, 9)
    for mine, theirs in zip(resumed.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def _toy_losses(drifts: dict[str, Drift], optimizer: torch.optim.Optimizer, iterations: range) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    sections = [torch.rand(12, 5, generator=generator) for _ in range(2)]
    sections[0][:, 2], sections[1][:, 2] = 0.0, 0.1
    objective = TrajectoryObjective(sections, torch.tensor([0.0, 0.1]), settings=TrajectorySettings(delta_z=0.05))
    losses = []
    for iteration in iterations:
        loss, numbers = objective.loss(
            *drifts.values(), iteration=iteration, phase=Phase("joint", 1, 1.0, 0.1), noise_seed=iteration
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(numbers["loss"])
    return losses


def _toy() -> tuple[dict[str, Drift], torch.optim.Optimizer]:
    drifts = {name: Drift(2, hidden_dim=4) for name in ("forward", "backward")}
    parameters: list[Tensor] = [parameter for drift in drifts.values() for parameter in drift.parameters()]
    return drifts, torch.optim.NAdam(parameters, lr=1e-2, weight_decay=1e-8)


def test_resumed_objective_is_bit_equal(tmp_path: Path) -> None:
    drifts, optimizer = _toy()
    _toy_losses(drifts, optimizer, range(4))
    save_checkpoint(tmp_path / "state", modules=drifts, optimizer=optimizer, progress={"iteration": 4})
    expected = _toy_losses(drifts, optimizer, range(4, 8))

    resumed, optimizer = _toy()
    start = load_checkpoint(tmp_path / "state", modules=resumed, optimizer=optimizer)["iteration"]
    assert _toy_losses(resumed, optimizer, range(start, 8)) == expected


def test_settings_of_the_optimizer_come_back(tmp_path: Path) -> None:
    network = _network(0)
    optimizer = torch.optim.NAdam(network.parameters(), lr=0.123, betas=(0.8, 0.99))
    save_checkpoint(tmp_path / "state", modules={"net": network}, optimizer=optimizer, progress={})
    fresh = torch.optim.NAdam(network.parameters())
    assert load_checkpoint(tmp_path / "state", modules={"net": network}, optimizer=fresh) == {}
    assert fresh.state_dict() == optimizer.state_dict()


def test_failed_write_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, network = tmp_path / "state", _network(0)
    optimizer = _optimizer("NAdam", network)
    save_checkpoint(path, modules={"net": network}, optimizer=optimizer, progress={"epoch": 1})

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, modules={"net": network}, optimizer=optimizer, progress={"epoch": 2})
    assert list(tmp_path.iterdir()) == [path]
    assert load_checkpoint(path, modules={"net": network}, optimizer=optimizer) == {"epoch": 1}


def test_shared_and_strided_tensors_are_stored(tmp_path: Path) -> None:
    network = nn.Module()
    network.first = nn.Linear(2, 2)
    network.second = network.first
    optimizer = _optimizer("SGD", network)
    strided = torch.arange(6.0).reshape(2, 3).T
    save_checkpoint(tmp_path / "state", modules={"net": network}, optimizer=optimizer, progress={"strided": strided})
    found = load_checkpoint(tmp_path / "state", modules={"net": network}, optimizer=optimizer)
    assert torch.equal(found["strided"], strided)


def test_wrong_input_is_named(tmp_path: Path) -> None:
    network = _network(0)
    optimizer = _optimizer("NAdam", network)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none", modules={"net": network}, optimizer=optimizer)
    with pytest.raises(TypeError, match="progress must hold"):
        save_checkpoint(tmp_path / "a", modules={"net": network}, optimizer=optimizer, progress={"bad": {1, 2}})
    save_checkpoint(tmp_path / "b", modules={"net": network}, optimizer=optimizer, progress={})
    with pytest.raises(ValueError, match=r"holds the networks \['net'\], not \['other'\]"):
        load_checkpoint(tmp_path / "b", modules={"other": network}, optimizer=optimizer)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_checkpoint(tmp_path / "b", modules={"net": _network(0, width=5)}, optimizer=optimizer)
    save_file({"weight": torch.ones(2)}, tmp_path / "c")
    with pytest.raises(ValueError, match="not a training checkpoint"):
        load_checkpoint(tmp_path / "c", modules={"net": network}, optimizer=optimizer)
