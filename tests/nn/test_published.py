from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from isost.nn import Drift, from_published, to_published

if TYPE_CHECKING:
    from pathlib import Path

DIRECTIONS = {"forward": ("f_joint", 1), "backward": ("g_joint", -1)}


@pytest.fixture(scope="module")
def checkpoint(data_dir: Path) -> dict[str, dict[str, Tensor]]:
    return torch.load(data_dir / "published" / "mouse_brain_model.pt", weights_only=True, map_location="cpu")


@pytest.fixture(scope="module")
def recorded(data_dir: Path) -> dict[str, Tensor]:
    with np.load(data_dir / "published" / "mouse_brain_drift.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(params=DIRECTIONS)
def direction(request: pytest.FixtureRequest) -> str:
    return request.param


def drift_of(checkpoint: dict[str, dict[str, Tensor]], direction: str) -> Drift:
    with torch.random.fork_rng():
        drift = Drift(50)
    drift.load_state_dict(from_published(checkpoint[DIRECTIONS[direction][0]]))
    return drift.requires_grad_(False)


@pytest.mark.data
def test_published_weights_give_the_recorded_drift(
    checkpoint: dict[str, dict[str, Tensor]], recorded: dict[str, Tensor], direction: str
) -> None:
    drift = drift_of(checkpoint, direction)
    neighbor, centre = recorded["edge_index"]
    table = neighbor[centre.argsort(stable=True)].view(600, 5)
    for out in (drift(recorded["points"], table=table), drift(recorded["points"])):
        torch.testing.assert_close(out, recorded[f"{direction}_drift"], rtol=0, atol=1e-5)


@pytest.mark.data
def test_five_steps_give_the_recorded_states(
    checkpoint: dict[str, dict[str, Tensor]], recorded: dict[str, Tensor], direction: str
) -> None:
    drift = drift_of(checkpoint, direction)
    state = recorded["points"]
    for _ in range(5):
        state = state + drift(state) * float(recorded["delta_d"]) * DIRECTIONS[direction][1]
    torch.testing.assert_close(state, recorded[f"{direction}_euler5"], rtol=0, atol=1e-5)


@pytest.mark.data
def test_names_of_the_checkpoint_come_back(checkpoint: dict[str, dict[str, Tensor]], direction: str) -> None:
    published = checkpoint[DIRECTIONS[direction][0]]
    back = to_published(from_published(published))
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in published.items())


@pytest.mark.parametrize("unet_depth", [1, 2, 3])
def test_round_trip_at_every_depth(unet_depth: int) -> None:
    with torch.random.fork_rng():
        drift = Drift(4, hidden_dim=8, unet_depth=unet_depth)
    ours = drift.state_dict()
    back = from_published(to_published(ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())


def test_unknown_and_missing_names_are_told() -> None:
    with torch.random.fork_rng():
        published = to_published(Drift(4, hidden_dim=8).state_dict())
    published["p_img.weight"] = published.pop("p_coo.tfc_1.lin_key.weight")
    with pytest.raises(ValueError, match=r"unknown names \['p_img.weight'\], missing names \['p_coo.tfc_1.lin_key.w"):
        from_published(published)
    with pytest.raises(ValueError, match="missing names"):
        to_published({})
    with pytest.raises(ValueError, match="checkpoint\\['f_joint'\\]"):
        from_published({"f_joint": torch.zeros(1), "iterations": torch.zeros(1)})
