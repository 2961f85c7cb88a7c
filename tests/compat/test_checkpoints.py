from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

import isost
from isost.compat import biaxial_train, load_checkpoint, read_stack, save_checkpoint
from isost.model import IsoST, ModelSettings
from isost.nn import to_published

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

DEPTHS = {"a_log_PC": 0.1, "b_log_PC": 0.25, "c_log_PC": 0.4}


@pytest.fixture
def published_experiment(tmp_path: Path) -> Callable[..., Path]:
    """Write an experiment folder as the published program does, of a random model."""

    def write(*, unet_depth: int = 2, hidden_dim: int = 8, delta_d: float = 0.05, **params: Any) -> Path:
        folder = tmp_path / f"published_experiment_{unet_depth}"
        folder.mkdir()
        settings = ModelSettings(n_comps=4, hidden_dim=hidden_dim, unet_depth=unet_depth, planar=False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            weights = [to_published(settings.drift().state_dict()) for _ in range(2)]
        torch.save({"f_joint": weights[0], "g_joint": weights[1], "iterations": 7}, folder / "model.pt")
        trainer = "IsoSTImageReg" if unet_depth == 3 else "IsoST"
        config = {"trainer": trainer, "params": {"gene_dim": 4, "hidden_dim": hidden_dim, "delta_d": delta_d} | params}
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        return folder

    return write


@pytest.fixture
def measured_experiment(data_dir: Path, tmp_path: Path) -> Path:
    """The published mouse brain model."""
    folder = tmp_path / "mouse_brain"
    folder.mkdir()
    shutil.copyfile(data_dir / "published" / "mouse_brain_model.pt", folder / "model.pt")
    shutil.copyfile(data_dir / "published" / "mouse_brain_config.yml", folder / "config.yml")
    return folder


@pytest.mark.data
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_published_model_answers_as_recorded(data_dir: Path, measured_experiment: Path, direction: Any) -> None:
    model = load_checkpoint(measured_experiment)
    with np.load(data_dir / "published" / "mouse_brain_drift.npz") as recorded:
        drift = model.drift(recorded["points"], direction=direction)
        assert drift.dtype == np.float32
        np.testing.assert_allclose(drift, recorded[f"{direction}_drift"], rtol=0, atol=1e-5)
        state, step = recorded["points"], float(recorded["delta_d"]) * (1 if direction == "forward" else -1)
        for _ in range(5):
            state = state + model.drift(state, direction=direction) * step
        np.testing.assert_allclose(state, recorded[f"{direction}_euler5"], rtol=0, atol=1e-5)
    assert model.settings.delta_z == 0.01


@pytest.mark.data
def test_the_published_model_goes_into_tl_and_pl(
    measured_experiment: Path, published_folder: Callable[..., Path]
) -> None:
    folder = published_folder(DEPTHS, n_comps=50, n_points=60)
    stack = read_stack(folder, list(DEPTHS), decode=True)
    model = load_checkpoint(measured_experiment, stack)
    section = isost.tl.section(stack, model=model, z=0.3)
    assert section.n_vars == 50
    assert np.isfinite(section.layers["mean"]).all()
    np.testing.assert_array_equal(section.obsm["spatial"][:, 2], 0.3)
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=0.3)
    assert np.isfinite(np.asarray(volume.X)).all()
    panels = isost.pl.slices(stack, color="PC_1", generated=section, show=False)
    assert len(panels) > 0


@pytest.mark.parametrize("unet_depth", [2, 3])
@pytest.mark.parametrize("delta_d", [0.01, 0.1])
def test_other_published_models_load(
    published_experiment: Callable[..., Path], unet_depth: int, delta_d: float
) -> None:
    model = load_checkpoint(published_experiment(unet_depth=unet_depth, delta_d=delta_d, hidden_dim=12))
    assert (model.settings.unet_depth, model.settings.delta_z, model.settings.hidden_dim) == (unet_depth, delta_d, 12)
    points = np.random.default_rng(0).random((30, 7))
    assert model.drift(points).shape == (30, 7)
    assert not np.array_equal(model.drift(points), model.drift(points, direction="backward"))


def test_a_loaded_model_goes_with_genes_and_comes_back(
    tmp_path: Path, quick: dict[str, Any], slides: Path, names: list[str]
) -> None:
    biaxial_train(tmp_path / "run", **quick)
    stack = read_stack(slides, names, decode=True)
    model = load_checkpoint(tmp_path / "run", stack)
    assert list(model.history["epoch"]) == list(range(1, 8))
    assert model.genes == list(stack.var_names)
    section = isost.tl.section(stack, model=model, z=float(np.mean(stack.uns["isost"]["sections"]["z"][:2])))
    assert list(section.var_names) == list(stack.var_names)
    volume = isost.tl.reconstruct(stack, model=model)
    assert np.isfinite(np.asarray(volume.X)).all()
    # a checkpoint on the way
    early = load_checkpoint(tmp_path / "run", name="checkpoint_0.pt")
    points = stack.obsm["X_isost"][:40]
    assert not np.array_equal(early.drift(points), model.drift(points))
    # as isost's own
    model.save(tmp_path / "own")
    np.testing.assert_array_equal(IsoST.load(tmp_path / "own").drift(points), model.drift(points))


def test_a_stack_without_expression_is_named(
    tmp_path: Path, quick: dict[str, Any], slides: Path, names: list[str]
) -> None:
    biaxial_train(tmp_path / "run", **quick | {"epoch": [1]})
    stack = read_stack(slides, names)
    model = load_checkpoint(tmp_path / "run", stack)
    for call in (
        lambda: isost.tl.section(stack, model=model, z=10.0),
        lambda: isost.tl.reconstruct(stack, model=model),
        lambda: isost.tl.fit(stack),
    ):
        with pytest.raises(ValueError, match=r"without expression.*decode=True"):
            call()
    bare = load_checkpoint(tmp_path / "run")
    with pytest.raises(ValueError, match=r"load_checkpoint.*stack="):
        isost.tl.section(read_stack(slides, names, decode=True), model=bare, z=10.0)


@pytest.mark.parametrize("dual", [True, False])
@pytest.mark.parametrize("planar", [True, False])
def test_a_fitted_model_is_saved_in_the_layout(tmp_path: Path, stack: AnnData, *, dual: bool, planar: bool) -> None:
    kws: dict[str, Any] = {"objective": "trajectory", "epochs": 1, "hidden_dim": 8, "n_cells": 20, "progress": False}
    sigma = (0.01, 0.01, 0.0 if planar else 0.1, 0.1)
    model = isost.tl.fit(stack, dual=dual, sigma=sigma, **kws)
    save_checkpoint(model, tmp_path / "run")
    assert set(torch.load(tmp_path / "run" / "model.pt", weights_only=True)) == {"f_joint", "g_joint", "iterations"}
    back = load_checkpoint(tmp_path / "run", stack)
    points = stack.obsm["X_isost"][:50]
    for direction in model.drifts:
        np.testing.assert_array_equal(back.drift(points, direction), model.drift(points, direction))
    assert set(back.drifts) == set(model.drifts)
    assert (back.settings.sigma, back.settings.planar, back.settings.delta_z) == (sigma, planar, 0.02)
    middle = float(np.mean(stack.uns["isost"]["sections"]["z"][:2]))
    assert isost.tl.section(stack, model=back, z=middle).n_obs > 0
    with pytest.raises(FileExistsError, match=r"config\.yml exists"):
        save_checkpoint(model, tmp_path / "run")


@pytest.mark.parametrize("changed", [{"n_heads": 2}, {"n_neighbors": 4}, {"unet_depth": 1}])
def test_a_model_that_the_layout_cannot_hold_is_refused(
    tmp_path: Path, stack: AnnData, changed: dict[str, int]
) -> None:
    model = isost.tl.fit(stack, epochs=1, hidden_dim=8, n_cells=20, expression_shift=0.5, progress=False, **changed)
    with pytest.raises(ValueError, match=f"the published program knows {next(iter(changed))}"):
        save_checkpoint(model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_checkpoint_holds_beside_is_no_harm(published_experiment: Callable[..., Path]) -> None:
    folder = published_experiment()
    torch.save(torch.load(folder / "model.pt", weights_only=True) | {"loss": [1.0]}, folder / "model.pt")
    assert load_checkpoint(folder).settings.n_comps == 4


def test_sections_named_downwards_turn_a_published_model_round(
    published_experiment: Callable[..., Path], published_folder: Callable[..., Path]
) -> None:
    experiment, folder = published_experiment(), published_folder(DEPTHS)
    points = np.random.default_rng(0).random((30, 7))
    up = load_checkpoint(experiment, read_stack(folder, list(DEPTHS)))
    down = load_checkpoint(experiment, read_stack(folder, list(DEPTHS)[::-1]))
    np.testing.assert_array_equal(up.drift(points), down.drift(points, "backward"))
    one_way = experiment / "config.yml"
    one_way.write_text(one_way.read_text().replace("params:", "params:\n  dual: false"))
    with pytest.raises(ValueError, match="trained downwards alone"):
        load_checkpoint(experiment, read_stack(folder, list(DEPTHS)[::-1]))


def test_files_that_do_not_fit_are_refused(
    published_experiment: Callable[..., Path], published_folder: Callable[..., Path]
) -> None:
    folder = published_experiment()
    whole = (folder / "model.pt").read_bytes()
    content = torch.load(folder / "model.pt", weights_only=True)
    config = (folder / "config.yml").read_text()

    def refused(words: str, error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=words):
            load_checkpoint(folder)
        (folder / "model.pt").write_bytes(whole)
        (folder / "config.yml").write_text(config)

    (folder / "config.yml").write_text(config.replace("gene_dim: 4", "gene_dim: 5"))
    refused(r"model\.pt has gene_dim 4, but .*config\.yml says 5")
    (folder / "config.yml").write_text(config.replace("hidden_dim: 8", "hidden_dim: 16"))
    refused(r"model\.pt has hidden_dim 8, but .*config\.yml says 16")
    (folder / "model.pt").write_bytes(whole[: len(whole) // 2])
    refused(r"model\.pt is damaged")
    torch.save(content["f_joint"], folder / "model.pt")
    refused(r"model\.pt is no published checkpoint")
    torch.save(content | {"g_joint": {"weight": 1}}, folder / "model.pt")
    refused(r"model\.pt is no published checkpoint")
    torch.save(content | {"g_joint": {}}, folder / "model.pt")
    refused(r"model\.pt: not the weights of one drift")
    name = "p_coo.tfc_1.lin_key.weight"
    torch.save(content | {"f_joint": content["f_joint"] | {name: torch.zeros(3, 3)}}, folder / "model.pt")
    refused(r"model\.pt holds tensors of other shapes")
    (folder / "config.yml").unlink()
    refused(r"there is no config", FileNotFoundError)
    with pytest.raises(ValueError, match=r"gene_dim 4, but the stack has 3 components"):
        load_checkpoint(folder, read_stack(published_folder(DEPTHS, n_comps=3), list(DEPTHS)))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*checkpoint_9\.pt"):
        load_checkpoint(folder, name="checkpoint_9.pt")
