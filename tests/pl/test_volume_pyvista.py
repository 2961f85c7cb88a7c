from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import isost

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad

pyvista = pytest.importorskip("pyvista", reason="pyvista is not installed (isost[plot3d])")


@pytest.fixture(autouse=True)
def closed_windows() -> Iterator[None]:
    yield
    pyvista.close_all()


def picture(volume: ad.AnnData, color: str | list[str], **kws: object) -> np.ndarray:
    plotter = isost.pl.volume(volume, color=color, unit="µm", backend="pyvista", **kws)  # type: ignore[arg-type]
    return np.asarray(plotter.screenshot(return_img=True), dtype=int)[..., :3]


def test_it_draws_without_a_screen(volume: ad.AnnData) -> None:
    image = picture(volume, "Core", cmap="Reds")
    assert (image[0, -1] == 255).all()
    # the gene is a red cloud in the middle of the window
    red, green, _ = image[300:600, 500:900].reshape(-1, 3).T
    assert (red - green).max() > 80


def test_categories_are_surfaces_in_their_colours(volume: ad.AnnData) -> None:
    volume.uns["layer_colors"] = ["#0000ff", "#ff0000"]
    plotter = isost.pl.volume(volume, color="layer", backend="pyvista")
    meshes = [actor for actor in plotter.actors.values() if isinstance(actor, pyvista.Actor)]
    assert {actor.prop.color.hex_rgb for actor in meshes} == {"#0000ff", "#ff0000"}
    assert all(0 < actor.prop.opacity < 1 for actor in meshes)


def test_several_genes_share_a_dark_scene(volume: ad.AnnData) -> None:
    image = picture(volume, ["Core", "Depth"], frames="box", palette=["#ff0000", "#0000ff"])
    assert (image[0, -1] == 0).all()
    red, _, blue = image.reshape(-1, 3).T
    assert (red - blue).max() > 60
    assert (blue - red).max() > 60


def test_without_pyvista_the_error_says_how_to_get_it(volume: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvista", None)
    with pytest.raises(ImportError, match=r"pip install 'isost\[plot3d\]'"):
        isost.pl.volume(volume, backend="pyvista")
