from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import isost

if TYPE_CHECKING:
    import anndata as ad


def test_a_row_for_each_gene_and_a_column_for_each_depth(volume: ad.AnnData) -> None:
    figure = isost.pl.gene_grid(volume, ["Core", "Depth"], z=[40.0, 75.0], unit="µm", show=False)
    panels = np.array([ax for ax in figure.axes if ax.images]).reshape(2, 2)
    assert [ax.get_title(loc="left") for ax in panels.ravel()] == ["z = 40 µm\nmeasured", "z = 75 µm\n", "", ""]
    assert panels[0, 0].get_position().y0 > panels[1, 0].get_position().y1
    assert panels[0, 0].get_position().x1 < panels[0, 1].get_position().x0
    bars = [ax.get_title(loc="left") for ax in figure.axes if not ax.images]
    assert bars == ["Core", "Depth"]


def test_by_default_five_depths_from_the_first_layer_to_the_last(volume: ad.AnnData) -> None:
    figure = isost.pl.gene_grid(volume, ["Core"], show=False)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.images]
    assert [title.splitlines()[0] for title in titles] == ["z = 20", "z = 45", "z = 70", "z = 95", "z = 120"]


def test_a_depth_beside_a_section_says_where_the_section_is(volume: ad.AnnData) -> None:
    volume.uns["isost"]["sections"] = {"names": ["a", "b"], "z": np.array([30.0, 90.0])}  # a on the face of its layer
    depths = [20.0, 40.0, 90.0, 100.0]
    figure = isost.pl.gene_grid(volume, "Core", z=depths, unit="µm", show=False)
    told = [ax.get_title(loc="left").split("\n")[1] for ax in figure.axes if ax.images]
    assert told == ["", "section at 30 µm", "measured", "section at 90 µm"]


def test_one_gene_at_one_depth(volume: ad.AnnData) -> None:
    figure = isost.pl.gene_grid(volume, "Core", z=75.0, show=False)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["z = 75\n", "Core"]


def test_errors_say_what_is_wrong(volume: ad.AnnData) -> None:
    with pytest.raises(KeyError, match="did you mean 'Core'"):
        isost.pl.gene_grid(volume, ["Cor"], show=False)
    with pytest.raises(ValueError, match="empty list"):
        isost.pl.gene_grid(volume, [], show=False)
    with pytest.raises(ValueError, match="z = 500 lies outside"):
        isost.pl.gene_grid(volume, ["Core"], z=[500.0], show=False)
