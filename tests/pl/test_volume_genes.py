from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import isost
from isost.pl._grid import voxels_of
from isost.pl._space import frame_lines

if TYPE_CHECKING:
    import anndata as ad

GENES = ["Core", "Depth"]


def z_scores(volume: ad.AnnData) -> np.ndarray:
    expression = np.asarray(volume.X, dtype=float)
    return (expression - expression.mean(axis=0)) / expression.std(axis=0)


def test_each_voxel_is_drawn_once_by_its_highest_gene(volume: ad.AnnData) -> None:
    page = isost.pl.volume(volume, color=GENES, backend="plotly")
    scores = z_scores(volume)
    drawn = [trace for trace in page.data if trace.visible is False]
    for i, axis in enumerate(["coloraxis", "coloraxis2"]):
        own = [trace for trace in drawn if trace.marker.coloraxis == axis]
        points = np.concatenate([np.c_[trace.x, trace.y, trace.z, trace.marker.color] for trace in own])
        rows = scores.argmax(axis=1) == i
        expected = np.c_[volume.obsm["spatial"], scores[:, i]][rows]
        np.testing.assert_allclose(points[np.lexsort(points.T)], expected[np.lexsort(expected.T)], rtol=1e-4)
    assert [page.layout.coloraxis.colorbar.title.text, page.layout.coloraxis2.colorbar.title.text] == [
        "Core (z)",
        "Depth (z)",
    ]
    # each layer's step shows that layer of both genes, and no other
    for step in page.layout.sliders[0].steps[1:]:
        shown = [trace for trace, visible in zip(page.data, step.args[0]["visible"], strict=True) if visible]
        assert len({z for trace in shown for z in trace.z}) == 1


def test_the_threshold_is_a_z_score(volume: ad.AnnData) -> None:
    page = isost.pl.volume(volume, color=GENES, threshold=1.0, backend="plotly")
    n = sum(len(trace.x) for trace in page.data if trace.visible is False)
    assert n == (z_scores(volume).max(axis=1) >= 1).sum()
    with pytest.raises(ValueError, match="no voxel has any gene's z-score of at least threshold=99"):
        isost.pl.volume(volume, color=GENES, threshold=99, show=False)


def test_several_genes_have_a_bar_each_on_a_dark_background(volume: ad.AnnData) -> None:
    figure = isost.pl.volume(volume, color=GENES, palette={"Core": "red", "Depth": "cyan"}, show=False)
    bars = [ax for ax in figure.axes if ax.get_title(loc="left") in ("Core (z)", "Depth (z)")]
    assert len(bars) == 2
    assert figure.get_facecolor()[:3] == to_rgb("black")
    assert {label.get_color() for label in bars[0].get_yticklabels()} == {"white"}
    front = np.asarray(figure.axes[0].images[0].get_array())
    red, _, blue = front[5, 9, :3]  # Core is highest near x = 0.4 of the half width
    assert red > blue
    light = isost.pl.volume(volume, color=GENES, background="light", show=False)
    assert light.get_facecolor()[:3] == to_rgb("white")


def test_a_gene_that_is_nowhere_highest_is_left_out_and_named(
    volume: ad.AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    volume.X[:, 1] = volume.X[:, 0]  # the first of equals wins
    with caplog.at_level(logging.WARNING, logger="isost"):
        page = isost.pl.volume(volume, color=GENES, backend="plotly")
    assert "'Depth' is nowhere the highest" in caplog.text
    assert page.layout.title.text == "Core (z)"


def test_errors_say_what_is_wrong(volume: ad.AnnData) -> None:
    with pytest.raises(TypeError, match="'layer' is a category"):
        isost.pl.volume(volume, color=["Core", "layer"], show=False)
    with pytest.raises(ValueError, match="color is an empty list"):
        isost.pl.volume(volume, color=[], show=False)
    with pytest.raises(ValueError, match="frames='ball' is unknown"):
        isost.pl.volume(volume, frames="ball", show=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="background='blue' is unknown"):
        isost.pl.volume(volume, background="blue", show=False)  # type: ignore[arg-type]


def test_frames_lie_around_the_box_or_at_depths(volume: ad.AnnData) -> None:
    voxels = voxels_of(volume)
    measured = np.array([40.0, 100.0])
    box = np.concatenate(frame_lines(voxels, "box", measured_depths=measured))
    np.testing.assert_allclose([box.min(axis=0), box.max(axis=0)], [voxels.origin, voxels.origin + voxels.extent])
    assert len(frame_lines(voxels, "box", measured_depths=measured)) == 6
    for frames, depths in (("measured", measured), ([55.0], [55.0])):
        lines = frame_lines(voxels, frames, measured_depths=measured)  # type: ignore[arg-type]
        assert [set(line[:, 2]) for line in lines] == [{depth} for depth in depths]
        np.testing.assert_array_equal(lines[0][0], lines[0][-1])
    page = isost.pl.volume(volume, color="Core", frames="box", backend="plotly")
    assert all(step.args[0]["visible"][0] for step in page.layout.sliders[0].steps)
    assert page.data[0].mode == "lines"


def test_flat_stacks_get_the_whole_width_for_their_depth(volume: ad.AnnData) -> None:
    flat = volume[volume.obsm["voxel"][:, 2] < 2].copy()
    front, side, top = isost.pl.volume(flat, color="Core", unit="µm", show=False).axes[:3]
    for ax, (across, upright) in ((side, (1, 2)), (top, (0, 2))):
        width, height = ax.get_position().size * ax.figure.get_size_inches()
        extent = voxels_of(flat).extent
        assert width / height == pytest.approx(extent[across] / extent[upright])
        assert ax.get_ylabel() == "z (µm)"
    assert top.get_position().width > 1.8 * front.get_position().width
