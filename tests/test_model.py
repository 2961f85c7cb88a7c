from __future__ import annotations

import dataclasses
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import isost
from isost._normalization import Normalization
from isost.model import IsoST, ModelSettings

if TYPE_CHECKING:
    from pathlib import Path


def make_model(**settings: Any) -> IsoST:
    wanted = ModelSettings(n_comps=3, hidden_dim=8, **settings)
    rng = np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        forward, backward = wanted.drift().eval(), wanted.drift().eval()
    return IsoST(
        wanted,
        forward,
        backward if wanted.dual else None,
        normalization=Normalization(rng.normal(size=6) * 1e6, rng.random(6) / 3),
        genes=["Gad1", "Slc17a6", "ß"],
        loadings=rng.normal(size=(3, 3)),
        component_variance=rng.random(3),
        cell_variance=rng.random(3) / 7,
        history=pd.DataFrame(
            {"epoch": [1, 2], "phase": ["shape", "joint"], "loss": [1 / 3, 0.1], "shape": [0.1, np.nan]}
        ),
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_model(sigma=(0.1, 0.1, 0.0, 0.2), expression_shift=0.5).save(tmp_path / "new" / "model")
    return tmp_path / "new" / "model"


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dual": False, "objective": "trajectory", "planar": False, "sigma": (0.01, 0.01, 0.1, 0.1), "n_heads": 2},
        {"unet_depth": 1, "n_neighbors": 3, "delta_z": 1 / 30, "n_cells": 52, "seed": 7},
    ],
)
def test_a_loaded_model_is_the_saved_one_to_the_last_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = make_model(**settings)
    model.save(tmp_path)
    loaded = IsoST.load(tmp_path)
    assert loaded.settings == model.settings
    assert loaded.genes == model.genes
    np.testing.assert_array_equal(loaded.normalization.minimum, model.normalization.minimum)
    np.testing.assert_array_equal(loaded.normalization.scale, model.normalization.scale)
    for name in ("loadings", "component_variance", "cell_variance"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name), strict=True)
    pd.testing.assert_frame_equal(loaded.history, model.history, check_exact=True)
    assert loaded.drifts.keys() == model.drifts.keys()
    state = torch.rand(40, 6, generator=torch.Generator().manual_seed(1))
    for direction, drift in model.drifts.items():
        again = loaded.drifts[direction]
        assert not again.training
        assert torch.equal(again(state, sizes=[15, 25]), drift(state, sizes=[15, 25]))
        assert all(weight.requires_grad and weight.device.type == "cpu" for weight in again.parameters())
    assert repr(loaded) == repr(model)


def test_repr_says_what_it_is() -> None:
    assert repr(make_model()) == "IsoST(objective='bridge', n_comps=3, hidden_dim=8, 3 genes, 2 epochs)"


def test_noise_is_one_number_a_dimension_or_none() -> None:
    assert make_model().sigma is None
    sigma = make_model(sigma=(0.1, 0.2, 0.0, 0.4)).sigma
    assert sigma is not None
    torch.testing.assert_close(sigma, torch.tensor([0.1, 0.2, 0.0, 0.4, 0.4, 0.4]))


@pytest.mark.parametrize("dual", [True, False])
def test_a_model_goes_to_a_device_and_stays_where_it_was(dual: bool) -> None:
    model = make_model(dual=dual)
    moved = model.to("meta")
    assert moved.device.type == "meta"
    assert {weight.device for drift in moved.drifts.values() for weight in drift.parameters()} == {moved.device}
    assert list(moved.drifts) == list(model.drifts)
    assert model.device.type == "cpu"


def test_without_history_it_is_empty() -> None:
    model = make_model()
    bare = IsoST(
        model.settings,
        model.forward,
        None,
        normalization=model.normalization,
        genes=model.genes,
        loadings=model.loadings,
        component_variance=model.component_variance,
        cell_variance=model.cell_variance,
    )
    assert len(bare.history) == 0
    assert set(bare.drifts) == {"forward"}


def test_the_folder_holds_weights_and_numbers_and_no_pickle(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == ["model.json", "weights.safetensors"]
    numbers = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    assert numbers["isost"] == isost.__version__
    assert numbers["settings"]["n_comps"] == 3
    for file in saved.iterdir():
        with pytest.raises((pickle.UnpicklingError, UnicodeDecodeError, KeyError, ValueError, EOFError)):
            pickle.loads(file.read_bytes())


def test_saving_and_loading_never_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a pickle was read or written")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "dump"), (torch, "load"), (torch, "save")):
        monkeypatch.setattr(module, name, refuse)
    make_model().save(tmp_path)
    IsoST.load(tmp_path)


def test_a_model_replaces_another_whole(saved: Path) -> None:
    make_model(dual=False).save(saved)
    loaded = IsoST.load(saved)
    assert loaded.backward is None
    assert loaded.settings.sigma == (0.0, 0.0, 0.0, 0.0)
    assert len(list(saved.iterdir())) == 2


def test_a_save_that_breaks_off_leaves_the_old_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = repr(IsoST.load(saved))
    for broken in ("isost.model.save_file", "pathlib.Path.write_text"):
        with monkeypatch.context() as patched:
            patched.setattr(broken, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                make_model(dual=False).save(saved)
        assert repr(IsoST.load(saved)) == before
        assert len(list(saved.iterdir())) == 2


@pytest.mark.parametrize("missing", ["model.json", "weights.safetensors"])
def test_a_folder_without_a_whole_model_is_refused(saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"holds no model: {missing} is missing; .* written by IsoST.save"):
        IsoST.load(saved)


def test_no_folder_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no model"):
        IsoST.load(tmp_path / "nowhere")


def test_settings_of_another_version_are_named(saved: Path) -> None:
    numbers = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    edit(saved, isost="9.9", settings=numbers["settings"] | {"warp": 3})
    with pytest.raises(ValueError, match=r"written by isost 9\.9 and has settings .* not know: \['warp'\]"):
        IsoST.load(saved)
    edit(saved, settings={"hidden_dim": 8})
    with pytest.raises(ValueError, match="none at all"):
        IsoST.load(saved)


def test_weights_that_do_not_fit_the_settings_are_refused(saved: Path) -> None:
    numbers = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    edit(saved, settings=numbers["settings"] | {"hidden_dim": 16})
    with pytest.raises(ValueError, match=r"weights\.safetensors does not fit the settings in model\.json"):
        IsoST.load(saved)


def test_weights_of_one_direction_do_not_make_two(saved: Path, tmp_path: Path) -> None:
    make_model(dual=False).save(tmp_path / "one")
    (tmp_path / "one" / "weights.safetensors").replace(saved / "weights.safetensors")
    with pytest.raises(ValueError, match="does not fit the settings"):
        IsoST.load(saved)


@pytest.mark.parametrize("keep", [0, 7, 500, -10])
def test_damaged_weights_are_named(saved: Path, keep: int) -> None:
    file = saved / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged .*write the model again by IsoST\.save"):
        IsoST.load(saved)


@pytest.mark.parametrize("text", ["", '{"settings": ', "3", "\xff"])
def test_damaged_numbers_are_named(saved: Path, text: str) -> None:
    (saved / "model.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"model\.json is damaged .*write the model again by IsoST\.save"):
        IsoST.load(saved)


def test_missing_numbers_are_named(saved: Path) -> None:
    (saved / "model.json").write_text('{"settings": {"n_comps": 3}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"model\.json lacks \['genes', 'history', 'normalization'\]"):
        IsoST.load(saved)


def test_settings_cannot_be_changed_by_chance() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_model().settings.delta_z = 1.0  # type: ignore[misc]


def test_missing_components_are_named(saved: Path) -> None:
    tensors = load_file(saved / "weights.safetensors")
    del tensors["components.loadings"]
    save_file(tensors, saved / "weights.safetensors")
    with pytest.raises(ValueError, match=r"lacks \['loadings'\]"):
        IsoST.load(saved)


@pytest.mark.parametrize("planar", [True, False])
def test_the_drift_is_that_of_the_networks(*, planar: bool) -> None:
    model = make_model(planar=planar, sigma=(0.1, 0.1, 0.1, 0.1))
    points = np.random.default_rng(0).random((30, 6))
    for direction, drift in model.drifts.items():
        found = model.drift(points, direction)
        assert found.dtype == np.float32
        with torch.no_grad():
            np.testing.assert_array_equal(found, drift(torch.as_tensor(points, dtype=torch.float32)).numpy())
    assert (model.drift(points)[:, 2] == 1).all() == planar


def test_points_without_a_drift_are_named() -> None:
    model, points = make_model(dual=False), np.zeros((30, 6))
    with pytest.raises(ValueError, match=r"no direction 'backward'; it has \['forward'\]"):
        model.drift(points, "backward")
    with pytest.raises(ValueError, match=r"needs \(n, 6\)"):
        model.drift(points[:, :5])
    with pytest.raises(ValueError, match="finite"):
        model.drift(np.full((30, 6), np.nan))
    with pytest.raises(ValueError, match="needs 5 neighbours"):
        model.drift(points[:4])
