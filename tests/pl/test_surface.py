from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib import pyplot as plt

import isost

if TYPE_CHECKING:
    from pathlib import Path

    import anndata as ad

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed (isost[plot3d])")


def test_the_outline_is_closed_and_encloses_the_voxels(volume: ad.AnnData) -> None:
    (outline,) = isost.pl.surface(volume, backend="trimesh", smoothing=0.0).geometry.values()
    assert outline.is_watertight
    assert outline.volume == pytest.approx(volume.n_obs * 20.0**3, rel=0.1)
    low = volume.obsm["spatial"].min(axis=0) - 10
    high = volume.obsm["spatial"].max(axis=0) + 10
    np.testing.assert_allclose(outline.bounds, [low, high], atol=1e-6)


def test_a_region_encloses_its_category(volume: ad.AnnData) -> None:
    scene = isost.pl.surface(volume, color="layer", groups="core", outline=False, backend="trimesh")
    assert list(scene.geometry) == ["core"]
    assert scene.volume == pytest.approx((volume.obs["layer"] == "core").sum() * 20.0**3, rel=0.2)
    both = isost.pl.surface(volume, color="layer", backend="trimesh")
    assert list(both.geometry) == ["shell", "core", "outline"]


def test_a_quantity_is_enclosed_where_it_crosses_its_threshold(volume: ad.AnnData) -> None:
    kws = {"color": "Core", "outline": False, "smoothing": 0.0, "backend": "trimesh"}
    (high,) = isost.pl.surface(volume, threshold=0.5, **kws).geometry.values()
    # the gene is exp(-4 r²) around (0.4, 0, 0) in an ellipsoid of half axes 120, 100 and 60
    middle = volume.uns["isost"]["grid"]["origin"] + [120 * 1.4, 100, 60]
    radius = np.linalg.norm((high.vertices - middle) / [120, 100, 60], axis=1)
    np.testing.assert_allclose(radius, np.sqrt(np.log(2) / 4), atol=0.06)


def test_sheets_of_one_voxel_stay_and_single_voxels_go(volume: ad.AnnData) -> None:
    index = volume.obsm["voxel"]
    volume.obs["kind"] = np.select([index[:, 0] == 5, (index == [2, 5, 3]).all(axis=1)], ["sheet", "speck"], "rest")
    scene = isost.pl.surface(volume, color="kind", outline=False, backend="trimesh")
    assert set(scene.geometry) == {"rest", "sheet"}


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj"])
def test_exported_meshes_are_read_back(volume: ad.AnnData, tmp_path: Path, suffix: str) -> None:
    volume.uns["layer_colors"] = ["#ff0000", "#0000ff"]
    path = tmp_path / f"core.{suffix}"
    scene = isost.pl.surface(volume, color="layer", groups="core", outline=False, backend="trimesh")
    scene.export(path)
    (read,) = trimesh.load_scene(path).geometry.values()
    np.testing.assert_allclose(read.bounds, scene.bounds, rtol=1e-5)
    assert tuple(read.visual.vertex_colors[0][:3]) == (0, 0, 255)


def test_the_outline_is_stronger_on_a_dark_background_and_its_key_is_as_faint(volume: ad.AnnData) -> None:
    opacity = {}
    for background in ("light", "dark"):
        axes = isost.pl.surface(volume, color="layer", background=background, show=False)
        opacity[background] = axes.collections[-1].get_facecolor()[0, 3]
        assert axes.get_legend().get_patches()[-1].get_facecolor()[3] == pytest.approx(opacity[background])
    assert opacity["dark"] > opacity["light"]


def test_pictures_and_pages_have_a_named_surface_each(volume: ad.AnnData) -> None:
    axes = isost.pl.surface(volume, color="layer", unit="µm", show=False)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["shell", "core", "outline"]
    assert axes.get_xlabel() == "x (µm)"
    page = isost.pl.surface(volume, color="layer", unit="µm", backend="plotly")
    assert [trace.name for trace in page.data] == ["shell", "core", "outline"]
    assert page.data[2].opacity < page.data[0].opacity


def test_into_given_axes(volume: ad.AnnData) -> None:
    ax = plt.figure().add_subplot(projection="3d")
    assert isost.pl.surface(volume, ax=ax) is ax


def test_errors_say_what_is_wrong(volume: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="backend='stl' is unknown"):
        isost.pl.surface(volume, backend="stl")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match=r"groups=\['rim'\] are no categories of 'layer'"):
        isost.pl.surface(volume, color="layer", groups="rim")
    with pytest.raises(ValueError, match="'Core' is a quantity; choose by threshold="):
        isost.pl.surface(volume, color="Core", groups="core")
    with pytest.raises(ValueError, match="no surface encloses anything"):
        isost.pl.surface(volume[:1].copy(), show=False)
