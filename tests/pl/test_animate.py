from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image, ImageSequence

import isost

if TYPE_CHECKING:
    from pathlib import Path

    import anndata as ad


def test_a_gif_flies_from_the_first_layer_to_the_last(volume: ad.AnnData, tmp_path: Path) -> None:
    film = isost.pl.animate(volume, color="Depth", n_frames=4, unit="µm", background="dark", show=False)
    film.save(tmp_path / "fly.gif", writer="pillow", dpi=40)
    with Image.open(tmp_path / "fly.gif") as gif:
        frames = [np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(gif)]
    assert len(frames) == 4
    # the gene rises with depth: viridis turns from blue to yellow
    middle = [frame[90, 80] for frame in frames]
    assert middle[0][2] > middle[0][0]
    assert middle[-1][0] > middle[-1][2]
    assert plt.gcf().axes[0].get_title(loc="left") == "z = 120 µm"


def test_a_film(volume: ad.AnnData, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg to write films with")
    isost.pl.animate(volume, color="layer", n_frames=3, show=False).save(tmp_path / "fly.mp4", dpi=40)
    assert (tmp_path / "fly.mp4").stat().st_size > 1000


def test_too_few_frames(volume: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="n_frames must be at least 2"):
        isost.pl.animate(volume, n_frames=1, show=False)
