from __future__ import annotations

import logging
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from isost.pl._grid import Voxels, coarsened, groups_of, measured_depths, pooled, surface_of, told_sections, voxels_of

if TYPE_CHECKING:
    import anndata as ad


def test_pooling_agrees_with_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    group, weights = rng.integers(0, 7, 60), rng.uniform(size=60)
    values = rng.normal(size=60)
    values[rng.uniform(size=60) < 0.2] = np.nan
    codes = rng.integers(-1, 3, 60).astype(float)
    mean = pooled(values, group, weights=weights, how="mean")
    largest = pooled(values, group, weights=weights, how="max")
    majority = pooled(codes, group, weights=weights, how="majority")
    for g in range(7):
        known = (group == g) & np.isfinite(values)
        assert mean[g] == pytest.approx(np.average(values[known], weights=weights[known]))
        assert largest[g] == values[known].max()
        votes = [weights[(group == g) & (codes == code)].sum() for code in range(3)]
        assert majority[g] == np.argmax(votes)


@pytest.mark.parametrize("how", ["mean", "max", "majority"])
def test_pooling_nothing_gives_nan(how: str) -> None:
    group = np.array([0, 0, 2])
    values = np.array([np.nan, np.nan, 1.0])
    out = pooled(values, group, weights=np.ones(3), how=how)  # type: ignore[arg-type]
    np.testing.assert_array_equal(out, [np.nan, np.nan, 1])
    out = pooled(values[:2], group[:2], weights=np.ones(2), how=how)  # type: ignore[arg-type]
    assert np.isnan(out).all()


def test_groups_are_the_distinct_rows() -> None:
    index = np.random.default_rng(0).integers(0, 4, (50, 2))
    rows, group = groups_of(index)
    np.testing.assert_array_equal(rows[group], index)
    assert len({tuple(row) for row in rows}) == len(rows)


def test_coarsening_keeps_cells_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    index = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), -1).reshape(-1, 3)
    voxels = Voxels(index, np.random.default_rng(0).uniform(size=len(index)), np.zeros(3), 10.0)
    same, group = coarsened(voxels, at_most=len(index))
    assert same.size == 10
    np.testing.assert_array_equal(same.index[group], index)
    with caplog.at_level(logging.INFO, logger="isost"):
        blocks, group = coarsened(voxels, at_most=100)
    assert (len(blocks.index), blocks.size) == (27, 20)
    assert blocks.density.sum() == pytest.approx(voxels.density.sum())
    np.testing.assert_array_equal(blocks.index[group], index // 2)
    assert "216 voxels are drawn as 27 blocks of 2×2×2" in caplog.text


@pytest.mark.parametrize("nested", [True, False])
def test_surface_agrees_with_a_slow_look_at_each_face(nested: bool) -> None:
    rng = np.random.default_rng(0)
    index = np.array([voxel for voxel in product(range(5), repeat=3) if rng.uniform() < 0.9])
    levels = rng.integers(-1, 2, len(index))
    level_at = {tuple(voxel): level for voxel, level in zip(index.tolist(), levels, strict=True)}
    expected = []
    for voxel, level in zip(index.tolist(), levels, strict=True):
        faces = [
            level_at.get(tuple(np.add(voxel, step)), -2) for step in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int))
        ]
        expected.append(any(face < level if nested else face != level for face in faces))
    np.testing.assert_array_equal(surface_of(index, levels, nested=nested), expected)


def test_the_grid_of_a_volume(volume: ad.AnnData) -> None:
    voxels = voxels_of(volume)
    np.testing.assert_allclose(voxels.centers, volume.obsm["spatial"])
    np.testing.assert_array_equal(voxels.shape, volume.obsm["voxel"].max(axis=0) + 1)
    np.testing.assert_allclose(voxels.extent, voxels.shape * 20.0)
    with pytest.raises(ValueError, match="no voxels"):
        voxels_of(volume[:0].copy())
    del volume.obsm["voxel"]
    with pytest.raises(KeyError, match="make one by isost"):
        voxels_of(volume)


def test_sections_are_drawn_at_their_own_depths_in_older_volumes_at_those_of_their_layers(volume: ad.AnnData) -> None:
    voxels = voxels_of(volume)
    np.testing.assert_array_equal(measured_depths(volume, voxels), [40, 100])
    z = np.array([0.0, 33.0, 97.0])  # the first lies below the voxels
    volume.uns["isost"]["sections"] = {"names": np.array(["a", "b", "c"], dtype=object), "z": z}
    np.testing.assert_array_equal(measured_depths(volume, voxels), [33, 97])
    upper = volume[volume.obsm["voxel"][:, 2] > 2].copy()
    np.testing.assert_array_equal(measured_depths(upper, voxels_of(upper)), [97])


def test_several_sections_in_one_layer_are_all_told() -> None:
    assert told_sections(60.0, np.array([52.5, 65.0]), "µm") == "sections at 52.5, 65 µm"
