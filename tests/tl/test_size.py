from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import isost
from isost.tl import _reconstruct, _size

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Numbers of voxels that the bound was found to be."""
    found: list[float] = []
    bound = _size._most_occupied
    monkeypatch.setattr(_size, "_most_occupied", lambda *args: found.append(bound(*args)) or found[-1])
    return found


@pytest.mark.parametrize("voxel_size", [6.0, 24.0, 90.0])
def test_no_volume_has_more_voxels_than_the_bound(
    stack: AnnData, model: IsoST, counted: list[float], voxel_size: float
) -> None:
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=voxel_size, genes=[])
    assert volume.n_obs <= counted[0] <= 5 * volume.n_obs


def test_what_would_not_fit_in_memory_is_refused_unless_it_is_stored(
    stack: AnnData, model: IsoST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_size, "available_memory", lambda: 1e5)
    with pytest.raises(ValueError, match=r"voxel_size=24 gives a grid of [\d,]+ voxels.* [\d.]+ GB .*store="):
        isost.tl.reconstruct(stack, model=model, voxel_size=24.0)
    isost.tl.reconstruct(stack, model=model, voxel_size=24.0, store=tmp_path / "volume.zarr")


def test_a_model_to_be_fitted_is_counted_with_all_components_that_it_can_have(
    stack: AnnData, fit_kws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(_reconstruct, "check_size", lambda *_, n_numbers, **__: counted.append(n_numbers))
    volume = isost.tl.reconstruct(stack, voxel_size=40.0, fit_kws=fit_kws | {"epochs": 1})
    assert volume.obsm["X_pca"].shape[1] <= counted[0] <= stack.n_vars
    isost.tl.reconstruct(stack, voxel_size=40.0, fit_kws=fit_kws | {"epochs": 1, "n_mean_comps": 8})
    assert counted[1] == 8


def test_voxels_far_smaller_than_cells_are_told(
    stack: AnnData, model: IsoST, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reconstruct, "Slabs", lambda *_, **__: pytest.fail("begun"))
    with caplog.at_level(logging.WARNING, logger="isost"), pytest.raises(pytest.fail.Exception):
        isost.tl.reconstruct(stack, model=model, voxel_size=0.5)
    assert "far smaller than the spacing of cells" in caplog.text
