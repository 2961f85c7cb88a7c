"""The picture at the top of the README: `python docs/images/volume.py` makes it anew."""

from __future__ import annotations

from pathlib import Path

import isost

isost.settings.progress = False
volume = isost.tl.reconstruct(isost.datasets.organ(), voxel_size=8.0)
figure = isost.pl.volume(
    volume, color=["Lining-1", "Nucleus-1", "Layer3-1"], threshold=1.0, unit="µm", background="dark", show=False
)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100, bbox_inches="tight")
