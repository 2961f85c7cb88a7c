from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import isost
from isost.tl import _fit, _fit_objectives
from isost.training import _loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST

QUICK: dict[str, Any] = {"epochs": 2, "hidden_dim": 8, "n_cells": 20, "expression_shift": 0.5, "progress": False}


@pytest.fixture(scope="module")
def small() -> AnnData:
    """Three small sections."""
    sections = isost.datasets.organ(n_sections=3, cells_per_section=90, n_genes=20)
    return isost.pp.slice_stack(sections, n_comps=3)


def weights(model: IsoST) -> list[torch.Tensor]:
    return [value for drift in model.drifts.values() for value in drift.state_dict().values()]


def same_weights(a: IsoST, b: IsoST) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_the_model_knows_what_it_was_fitted_to(model: IsoST, stack: AnnData, fit_kws: dict[str, Any]) -> None:
    assert model.genes == list(stack.var_names)
    normalization = stack.uns["isost"]["normalization"]
    np.testing.assert_array_equal(model.normalization.minimum, normalization["minimum"])
    np.testing.assert_array_equal(model.normalization.scale, normalization["scale"])
    # fewer genes than components wanted for the mean: all of their space, the stack's components first
    np.testing.assert_array_equal(model.loadings[:, : model.settings.n_comps], stack.varm["PCs"])
    np.testing.assert_allclose(model.loadings @ model.loadings.T, np.eye(stack.n_vars), atol=1e-5)
    assert model.cell_variance.shape == model.component_variance.shape == (stack.n_vars,)
    assert (model.cell_variance > 0).all()
    assert (model.cell_variance < 2 * model.component_variance).all()
    assert model.settings.expression_shift == 0.5
    assert model.settings.planar
    assert model.settings.n_cells == fit_kws["n_cells"]
    assert not model.forward.training
    assert set(model.drifts) == {"forward", "backward"}


def test_large_stacks_are_learnt_from_tiles(small: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fit_objectives, "_MOST_LEARNT", 130)
    seen: list[tuple[int, ...]] = []
    plain = _fit_objectives.BridgeObjective

    def bridge(*paths: Any, **kws: Any) -> Any:
        seen.extend(p.sizes for p in paths)
        return plain(*paths, **kws)

    monkeypatch.setattr(_fit_objectives, "BridgeObjective", bridge)
    first, again = (isost.tl.fit(small, batch_size=20, **QUICK) for _ in range(2))
    assert same_weights(first, again)
    n_cells = small.n_obs / 3
    for sizes in seen:
        assert max(sizes) <= 20
        assert 0.25 * n_cells < sum(sizes) / 2 < 0.75 * n_cells  # 130 of 270 cells, in each of two gaps


def test_history_has_a_row_an_epoch_and_training_helps(model: IsoST) -> None:
    assert model.history["epoch"].tolist() == list(range(1, 16))
    assert {"phase", "loss", "shape", "expression"} <= set(model.history.columns)
    assert model.history["loss"].iloc[-3:].mean() < 0.9 * model.history["loss"].iloc[0]


def test_the_same_seed_gives_the_same_model(small: AnnData) -> None:
    first, again, other = (isost.tl.fit(small, seed=seed, **QUICK) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert first.history.equals(again.history)
    assert not same_weights(first, other)


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_global_random_state_is_neither_read_nor_changed(small: AnnData, objective: Any) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - this state must stay as it is
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
    kws = QUICK | {"epochs": 1, "expression_shift": None, "n_cells": None, "objective": objective}
    first = isost.tl.fit(small, **kws)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]  # noqa: NPY002
    torch.rand(7)
    np.random.random(7)  # noqa: NPY002
    assert same_weights(first, isost.tl.fit(small, **kws))


def test_the_stack_is_not_changed(small: AnnData, assert_same: Callable[..., None]) -> None:
    before = small.copy()
    isost.tl.fit(small, **QUICK)
    assert_same(small, before)


def test_without_a_shift_expression_does_not_drift_at_all(small: AnnData) -> None:
    model = isost.tl.fit(small, **(QUICK | {"epochs": 5, "expression_shift": 0.0}))
    state = torch.as_tensor(small.obsm["X_isost"])
    for drift in model.drifts.values():
        with torch.inference_mode():
            moved = drift(state)
        assert (moved[:, 3:] == 0).all()
        assert moved[:, :2].abs().max() > 0
        assert (moved[:, 2] == 1).all()


def test_width_and_shift_are_chosen_from_the_sections(small: AnnData) -> None:
    model = isost.tl.fit(small, **(QUICK | {"epochs": 1, "n_cells": None, "expression_shift": None}))
    assert 8 <= model.settings.n_cells <= 90
    assert model.settings.expression_shift in (0.0, 0.5, 1.0)


def test_the_bridge_makes_200_steps_unless_told(small: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def optimize(*_: Any, settings: Any, **__: Any) -> list[Any]:
        asked.append(settings)
        return []

    monkeypatch.setattr(_fit, "optimize", optimize)
    isost.tl.fit(small, **(QUICK | {"epochs": None}))
    isost.tl.fit(small, **(QUICK | {"epochs": None, "batch_size": 30}))
    isost.tl.fit(small, **(QUICK | {"epochs": None, "objective": "trajectory", "expression_shift": None}))
    assert asked[0].epochs == 200
    assert 15 < asked[1].epochs < 100
    assert asked[2].epochs == (100, 100, 100)
    assert asked[0].anneal
    assert not asked[2].anneal
    assert asked[0].lr > asked[2].lr == 1e-3  # annealed, and constant


def test_the_published_objective_with_its_own_settings(small: AnnData) -> None:
    model = isost.tl.fit(
        small,
        objective="trajectory",
        hidden_dim=8,
        n_cells=20,
        epochs=(1, 1, 1),
        delta_z=0.05,
        sigma=(0.01, 0.01, 0.1, 0.1),
        alpha=0.2,
        stride=2,
        freeze=True,
        warm_up_rate=0.01,
        beta_end_value=0.1,
        beta_n_iterations=2,
        blur=0.1,
        scaling=0.4,
        checkpoint=True,
        progress=False,
    )
    assert model.history["phase"].tolist() == ["shape", "expression", "joint"]
    assert not model.settings.planar  # noise in z
    assert model.settings.objective == "trajectory"
    section = isost.tl.section(small, model=model, z=90.0)
    assert (section.obsm["spatial"][:, 2] == 90.0).all()
    volume = isost.tl.reconstruct(small, model=model, voxel_size=40.0)
    assert np.isfinite(volume.X).all()


def test_one_direction_alone_can_be_trained_as_published(small: AnnData) -> None:
    model = isost.tl.fit(small, objective="trajectory", dual=False, **(QUICK | {"epochs": 1, "expression_shift": None}))
    assert set(model.drifts) == {"forward"}
    assert model.backward is None
    volume = isost.tl.reconstruct(small, model=model, voxel_size=40.0)
    per_layer = volume.obs["density"].groupby(volume.obsm["voxel"][:, 2]).sum()
    sizes = small.obs["section"].value_counts(sort=False).to_numpy()
    np.testing.assert_allclose(per_layer.to_numpy(), sizes[[0, 0, 1, 2]])  # at 0, 40, 80 and 120


def test_training_continues_where_it_stopped(small: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = isost.tl.fit(small, **(QUICK | {"epochs": 6}))
    kws = QUICK | {"epochs": 6, "checkpoint_dir": tmp_path / "here", "checkpoint_every": 2}
    epochs, real = itertools.count(1), _loop._epoch

    def power_cut(*args: Any) -> Any:
        if next(epochs) == 4:
            raise RuntimeError
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(_loop, "_epoch", power_cut)
        with pytest.raises(RuntimeError):
            isost.tl.fit(small, **kws)
    resumed = isost.tl.fit(small, **kws)
    assert same_weights(whole, resumed)
    assert resumed.history.equals(whole.history)


@pytest.mark.parametrize(
    ("kws", "error", "message"),
    [
        ({"objective": "guess"}, ValueError, "objective='guess' is unknown; choose 'bridge' or 'trajectory'"),
        ({"sigma": (0.0, 0.0, 0.0)}, ValueError, "sigma must be four numbers"),
        ({"sigma": (-0.1, 0.0, 0.0, 0.0)}, ValueError, "none negative"),
        ({"sigma": (0.0, 0.0, 0.1, 0.0)}, ValueError, "sigma of z must be 0"),
        ({"expression_shift": 1.5}, ValueError, r"expression_shift must lie in \[0, 1\].* got 1.5"),
        ({"objective": "trajectory"}, ValueError, "expression_shift must .* for objective='bridge' alone"),
        ({"dual": False}, ValueError, "bridge learns both directions"),
        ({"alpha": 0.3}, TypeError, r"fit does not know \['alpha'\] for objective='bridge'"),
        (
            {"objective": "trajectory", "expression_shift": None, "alhpa": 0.3},
            TypeError,
            r"fit does not know \['alhpa'\]",
        ),
        ({"delta_z": 0.0}, ValueError, "delta_z must be a positive number"),
        ({"epochs": -1}, ValueError, "epochs of the bridge must be"),
        ({"epochs": [1, 1]}, ValueError, "must be one number"),
        ({"batch_size": 2}, ValueError, "batch_size must be at least 6"),
        ({"n_heads": 3}, ValueError, "choose a divisor of hidden_dim"),
        ({"n_neighbors": 100}, ValueError, r"section 'section\d' has \d+ cells, too few for n_neighbors=100"),
        ({"n_neighbors": 0}, ValueError, "n_neighbors must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"sigma": (float("nan"), 0.0, 0.0, 0.0)}, ValueError, "sigma must be four numbers"),
        ({"n_cells": 0}, ValueError, "n_cells must be at least 3"),
        ({"hidden_dim": 0}, ValueError, "hidden_dim must be at least 1"),
        ({"unet_depth": 9}, ValueError, r"section 'section\d' has \d+ cells, too few for unet_depth=9"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
        ({"optimizer": "Guess"}, ValueError, "not in torch.optim"),
        ({"lr": -1.0}, ValueError, "lr must be a positive number"),
    ],
)
def test_impossible_settings_are_refused(small: AnnData, kws: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        isost.tl.fit(small, **(QUICK | kws))


def test_sections_are_not_a_stack(organ_sections: list[AnnData]) -> None:
    with pytest.raises(TypeError, match=r"call isost\.pp\.slice_stack on the sections first"):
        isost.tl.fit(organ_sections)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"call isost\.pp\.slice_stack first"):
        isost.tl.fit(organ_sections[0])


def test_a_gap_of_thousands_of_steps_is_warned_of(small: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"takes 1,000 steps: .* give it by slice_stack"):
        isost.tl.fit(small, **(QUICK | {"epochs": 0, "delta_z": 1e-4}))


def test_two_genes_are_enough(organ_sections: list[AnnData]) -> None:
    two = [section[:60, :2].copy() for section in organ_sections[:2]]
    stack = isost.pp.slice_stack(two)
    model = isost.tl.fit(stack, **QUICK)
    assert model.settings.n_comps == 2
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=40.0)
    assert volume.shape[1] == 2
    assert np.isfinite(volume.X).all()


def test_large_sections_are_cut_into_tiles(small: AnnData) -> None:
    model = isost.tl.fit(small, **(QUICK | {"batch_size": 30}))
    assert np.isfinite(model.history["loss"]).all()


def test_two_sections_of_very_different_size(organ_sections: list[AnnData]) -> None:
    given = [organ_sections[0][:8].copy(), organ_sections[1].copy()]
    stack = isost.pp.slice_stack(given, n_comps=3, check=False)
    model = isost.tl.fit(stack, **(QUICK | {"n_cells": None}))
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=30.0)
    assert np.isfinite(volume.X).all()
    assert isost.tl.section(stack, model=model, z=30.0).n_obs > 100


def test_a_checkpoint_of_another_fit_is_refused(small: AnnData, organ_sections: list[AnnData], tmp_path: Path) -> None:
    kws = QUICK | {"epochs": 1, "checkpoint_dir": tmp_path}
    isost.tl.fit(small, **kws)
    for change in ({"seed": 5}, {"hidden_dim": 32}, {"expression_shift": 0.0}):
        with pytest.raises(ValueError, match="left by a fit to other sections or with other settings"):
            isost.tl.fit(small, **(kws | change))
