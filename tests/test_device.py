from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils.checkpoint import checkpoint

import isost
from isost.nn import Drift
from isost.nn._sparse import Links
from isost.sde import _walk
from isost.training import _nearest, load_checkpoint, save_checkpoint

from ._pretended_gpu import GPU, PretendedGPU

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST

N_COMPS = 3
TRAJECTORY = {"objective": "trajectory", "delta_z": 0.05, "sigma": (0.01, 0.01, 0.1, 0.1)}
TILES = {"epochs": 2, "batch_size": 40, "expression_shift": 0.5}
WAYS: dict[str, dict[str, Any]] = {
    "bridge": {"epochs": 2, "expression_shift": 0.5, "n_heads": 2},
    "tiles": TILES,
    "trajectory": TRAJECTORY | {"epochs": (1, 1, 1), "checkpoint": True},
    "tiles of the trajectory": TRAJECTORY | {"epochs": (1, 1), "batch_size": 40, "freeze": True, "stride": 2},
}


@pytest.fixture(scope="module")
def stack() -> AnnData:
    sections = isost.datasets.organ(n_sections=3, cells_per_section=90, n_genes=20)
    return isost.pp.slice_stack(sections, n_comps=N_COMPS)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGPU:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    # a torch built for CUDA would look for a real one, to ask whether it records the optimizer's step
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    # torch compares what is recomputed by its device, which it asks for above the stand-in once, and once below
    monkeypatch.setattr(_walk, "recomputed", lambda *args, **kws: checkpoint(*args, **kws, determinism_check="none"))
    return PretendedGPU()


def fitted(stack: AnnData, device: str, **kws: Any) -> IsoST:
    quick = {"hidden_dim": 8, "n_cells": 15, "adaptive": False, "progress": False}
    return isost.tl.fit(stack, device=device, **quick | kws)


def made(stack: AnnData, model: IsoST) -> tuple[AnnData, AnnData]:
    between = float(stack.obs["z"].unique()[:2].mean())
    return isost.tl.reconstruct(stack, model=model), isost.tl.section(stack, model=model, z=between)


def assert_alike(found: AnnData, expected: AnnData) -> None:
    width = np.ptp(expected.obsm["spatial"])
    np.testing.assert_allclose(found.obsm["spatial"], expected.obsm["spatial"], atol=1e-4 * width)
    np.testing.assert_allclose(found.to_df(), expected.to_df(), atol=1e-4)


def density_apart(a: AnnData, b: AnnData) -> float:
    """Mean difference of two volumes in the cells that a voxel holds."""
    return float(a.obs["density"].sub(b.obs["density"], fill_value=0).abs().mean())


@pytest.fixture(
    params=[
        "pretended",
        pytest.param("real", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")),
    ]
)
def any_gpu(request: pytest.FixtureRequest) -> AbstractContextManager[Any]:
    """Where ``device="cuda"`` is a GPU, a pretended one or a real one."""
    return request.getfixturevalue("gpu") if request.param == "pretended" else nullcontext()


def test_one_model_makes_the_same_volume_on_both(stack: AnnData, any_gpu: AbstractContextManager[Any]) -> None:
    model = fitted(stack, "cpu", epochs=20, expression_shift=0.5)
    with any_gpu:
        moved = model.to("cuda")
        assert moved.device == GPU
        found = made(stack, moved)
    for here, there in zip(found, made(stack, model), strict=True):
        assert_alike(here, there)
    np.testing.assert_allclose(found[0].obs["density"], made(stack, model)[0].obs["density"], atol=1e-4)


@pytest.mark.parametrize("kws", [{"epochs": 20, "expression_shift": 0.5}, TRAJECTORY | {"epochs": (2, 2, 2)}])
def test_fits_on_both_are_nearer_than_those_of_two_seeds(
    stack: AnnData, any_gpu: AbstractContextManager[Any], kws: dict[str, Any]
) -> None:
    def volume(device: str, seed: int) -> AnnData:
        model = fitted(stack, device, seed=seed, **kws)
        return isost.tl.reconstruct(stack, model=model, seed=seed)

    first, second = volume("cpu", 0), volume("cpu", 1)
    with any_gpu:
        found = volume("cuda", 0)
    assert density_apart(found, first) < density_apart(second, first)


@pytest.mark.parametrize("kws", WAYS.values(), ids=WAYS)
def test_every_way_to_train_gives_what_it_gives_on_the_cpu(
    stack: AnnData, gpu: PretendedGPU, kws: dict[str, Any]
) -> None:
    expected = fitted(stack, "cpu", **kws)
    with gpu:
        model = fitted(stack, "cuda", **kws)
        found = made(stack, model)
    np.testing.assert_allclose(model.history["loss"], expected.history["loss"], rtol=1e-4)
    for here, there in zip(found, made(stack, expected), strict=True):
        assert_alike(here, there)


@pytest.mark.parametrize("kws", [TILES, TRAJECTORY | {"epochs": (1, 1, 1)}])
def test_the_inner_loops_copy_single_numbers_to_the_host(
    stack: AnnData, gpu: PretendedGPU, kws: dict[str, Any]
) -> None:
    with gpu:
        model = fitted(stack, "cuda", **kws)
        # tiles are cut on the host: the sections' x and y, once an epoch and once to count the steps
        assert gpu.copied() == ([("to", 2 * stack.n_obs)] * 3 if kws is TILES else [])
        gpu.waits.clear()
        isost.tl.reconstruct(stack, model=model)
    assert {what for what, _ in gpu.copied()} == {"cpu"}  # the positions at each layer


def test_a_resumed_optimizer_waits_for_nothing(gpu: PretendedGPU, tmp_path: Path) -> None:
    def network(seed: int) -> tuple[dict[str, torch.nn.Module], torch.optim.Optimizer]:
        weights = torch.rand(3, 2, generator=torch.Generator().manual_seed(seed))
        linear = torch.nn.Linear(2, 3).requires_grad_()
        with torch.no_grad():
            linear.weight.copy_(weights)
            linear.bias.zero_()
        linear.to("cuda")
        return {"net": linear}, torch.optim.NAdam(linear.parameters(), foreach=True)

    def stepped(modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> torch.Tensor:
        modules["net"](torch.ones(4, 2, device="cuda")).square().mean().backward()
        gpu.waits.clear()
        optimizer.step()
        assert gpu.waits == []
        return modules["net"].weight.detach().cpu()

    with gpu:
        modules, optimizer = network(0)
        stepped(modules, optimizer)
        save_checkpoint(tmp_path / "state", modules=modules, optimizer=optimizer, progress={})
        resumed, fresh = network(1)
        load_checkpoint(tmp_path / "state", modules=resumed, optimizer=fresh)
        optimizer.zero_grad()
        assert torch.equal(stepped(resumed, fresh), stepped(modules, optimizer))


@pytest.fixture
def experiment(stack: AnnData, tmp_path: Path) -> dict[str, Any]:
    """Arguments of the published program's training."""
    params = {"gene_dim": N_COMPS, "hidden_dim": 8, "delta_d": 0.05, "std_seq": 0.1, "lr": 0.01, "stride": 1}
    params |= {"optimizer_name": "NAdam", "weight_decay": "1e-8", "std_x": 0.01, "std_y": 0.01, "std_z": 0.1}
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump({"trainer": "IsoST", "params": params}))
    isost.compat.write_stack(stack, tmp_path / "data")
    names = list(stack.obs["section"].cat.categories)
    return {"data_dir": tmp_path / "data", "slide_names": names, "config_file": config, "epoch": [1, 1, 1]}


def test_the_published_way_gives_what_it_gives_on_the_cpu(
    experiment: dict[str, Any], gpu: PretendedGPU, tmp_path: Path
) -> None:
    def frames(device: str) -> list[Path]:
        run = tmp_path / device
        isost.compat.biaxial_train(run, **experiment, device=device, progress=False)
        data, names = experiment["data_dir"], experiment["slide_names"]
        out = tmp_path / f"{device} frames"
        return isost.compat.fine_inference(run, data, names, result_dir=out, device=device, progress=False)

    expected = frames("cpu")
    with gpu:
        found = frames("cuda")
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.load(here), np.load(there), atol=1e-4)


def _left_on_the_host(values: list[float], sizes: list[int], *, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype).repeat_interleave(torch.tensor(sizes)).unsqueeze(-1)


def _by_numpy(positions: torch.Tensor, measured: torch.Tensor) -> torch.Tensor:
    distance = ((positions.detach().numpy()[:, None] - measured.numpy()[None]) ** 2).sum(-1)
    return torch.from_numpy(distance.argmin(1))


def _by_column_of_numpy(links: Links) -> torch.Tensor:  # needed by the backward pass alone
    return torch.from_numpy(np.argsort(links.columns.numpy(), kind="stable"))


@pytest.mark.parametrize(
    ("where", "name", "mistake", "error"),
    [
        (_walk, "_per_point", _left_on_the_host, RuntimeError),
        (_nearest, "nearest_measured", _by_numpy, TypeError),
        (Links, "_by_column", _by_column_of_numpy, TypeError),
    ],
)
def test_a_mistake_of_device_is_an_error(
    stack: AnnData,
    gpu: PretendedGPU,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    mistake: Callable[..., Any],
    error: type[Exception],
) -> None:
    monkeypatch.setattr(where, name, mistake)
    fitted(stack, "cpu", **TRAJECTORY, epochs=1)
    with gpu, pytest.raises(error, match=r"cuda:0"):
        fitted(stack, "cuda", **TRAJECTORY, epochs=1)


def test_a_silent_copy_is_seen(stack: AnnData, gpu: PretendedGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Drift.forward

    def copying(drift: Drift, state: torch.Tensor, **kws: Any) -> torch.Tensor:
        return forward(drift, state.cpu().to(state), **kws)

    monkeypatch.setattr(Drift, "forward", copying)
    with gpu:
        fitted(stack, "cuda", epochs=1, expression_shift=0.5)
    assert [what for what, _ in gpu.copied()] == ["cpu", "cpu"]  # a step up and a step down
