"""Every plot against a small picture of it, on a light and a dark background.

After a wanted change `make baselines` draws the pictures anew. Letters are hidden, for they differ between versions of
fonts; what is written is tested beside each function.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.animation import FuncAnimation
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from PIL import Image, ImageSequence

import isost

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from .conftest import Organ

BASELINES = Path(__file__).parent / "baselines"
DPI, FINER = 40, 4
WINDOW_FINER = 5
TOLERANCE = 4.0  # root mean square over pixels of 0 to 255

WINDOW: dict[str, Any] = {"backend": "pyvista", "show": False}
GENE, OTHER = "Lining-1", "Nucleus-1"
DRAWINGS: dict[str, Callable[..., Any]] = {
    "slices": lambda x, kws: isost.pl.slices(x.sections, color=GENE, ncols=3, **kws)[0],
    "slices_types": lambda x, kws: isost.pl.slices(x.sections, color="cell_type", ncols=3, **kws)[0],
    "volume": lambda x, kws: isost.pl.volume(x.volume, color=GENE, **kws),
    "volume_flat": lambda x, kws: isost.pl.volume(x.flat_volume, color="cell_type", frames="measured", **kws),
    "volume_genes": lambda x, kws: isost.pl.volume(x.volume, color=[GENE, OTHER], threshold=1, frames="box", **kws),
    "cut": lambda x, kws: isost.pl.cut(x.volume, color=GENE, plane=([0, 0, 100], [0, 1, 1]), **kws),
    "surface": lambda x, kws: isost.pl.surface(x.volume, color="cell_type", groups="Lining", **kws),
    "gene_grid": lambda x, kws: isost.pl.gene_grid(x.volume, [GENE, OTHER], **kws),
    "animate": lambda x, kws: isost.pl.animate(x.volume, color=GENE, n_frames=3, **kws),
    "window": lambda x, kws: isost.pl.volume(x.volume, color=GENE, frames="box", **(kws | WINDOW)),
    "window_types": lambda x, kws: isost.pl.volume(x.volume, color="cell_type", **(kws | WINDOW)),
    "uncertainty": lambda x, kws: isost.pl.uncertainty(x.volume, **kws),
    "training": lambda x, kws: isost.pl.training(x.model, **without_unit(kws)),
    "evaluation": lambda x, kws: isost.pl.evaluation(x.scores, **without_unit(kws)),
}


@pytest.mark.parametrize("background", ["light", "dark"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_looks_as_it_did(name: str, background: str, organ: Organ, tmp_path: Path) -> None:
    if name.startswith("window"):
        pytest.importorskip("pyvista", reason="pyvista is not installed (isost[plot3d])")
    with plt.style.context("dark_background" if background == "dark" else "default"):
        drawn = DRAWINGS[name](organ, {"unit": "µm", "background": background, "show": False})
        expected, actual = BASELINES / f"{name}_{background}.png", tmp_path / "actual.png"
        save_small(drawn, actual)
    if os.environ.get("ISOST_NEW_BASELINES"):
        copyfile(actual, expected)
    pair = [halved(path, tmp_path / name) for path, name in ((expected, "expected.png"), (actual, "drawn.png"))]
    assert compare_images(*pair, tol=TOLERANCE) is None


def without_unit(kws: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kws.items() if key != "unit"}


def halved(path: Path, to: Path) -> str:
    """Save a picture at half its size: lines a pixel aside, as other versions of matplotlib draw them, still match."""
    Image.open(path).reduce(2).save(to)
    return str(to)


def save_small(drawn: Any, path: Path) -> None:
    """Save without letters, drawn large and averaged over squares of pixels: a shift by one of them hardly shows."""
    if hasattr(drawn, "screenshot"):  # a window's letters are too small to be left
        Image.fromarray(drawn.screenshot(return_img=True)).reduce(WINDOW_FINER).save(path)
        return
    figure: Figure = plt.gcf() if isinstance(drawn, FuncAnimation) else getattr(drawn, "figure", drawn)
    figure.set_size_inches(np.ceil(figure.get_size_inches() * DPI) / DPI)
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        text.set_visible(False)
    large = io.BytesIO()
    if isinstance(drawn, FuncAnimation):
        large = frames_beside(drawn, path.with_name("film.png"))
    else:
        figure.savefig(large, dpi=DPI * FINER)
    Image.open(large).reduce(FINER).save(path)


def frames_beside(film: FuncAnimation, path: Path) -> io.BytesIO:
    """Save the frames of a film as one picture, from left to right."""
    film.save(path, writer="pillow", dpi=DPI * FINER)
    with Image.open(path) as moving:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(moving)]
    beside = io.BytesIO()
    Image.fromarray(np.concatenate(frames, axis=1)).save(beside, "png")
    return beside
