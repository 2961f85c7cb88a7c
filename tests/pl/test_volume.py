from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

import isost

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(figure: Figure) -> tuple[Axes, Axes, Axes, Any]:
    """Front, side and top view, and the view in 3D."""
    return tuple(figure.axes[:4])  # type: ignore[return-value]


def pixels(ax: Axes) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def test_projections_share_one_scale_and_line_up(volume: ad.AnnData) -> None:
    front, side, top, _ = panels(isost.pl.volume(volume, color="Core", unit="µm", show=False))
    scales = []
    for ax in (front, side, top):
        width, height = ax.get_position().size * ax.figure.get_size_inches()
        scales += [width / np.ptp(ax.get_xlim()), height / np.ptp(ax.get_ylim())]
    np.testing.assert_allclose(scales, scales[0])
    assert front.get_position().y0 == pytest.approx(side.get_position().y0)
    assert front.get_position().x0 == pytest.approx(top.get_position().x0)
    assert (top.get_xlabel(), top.get_ylabel(), side.get_xlabel()) == ("x (µm)", "z (µm)", "z (µm)")
    low = np.asarray(volume.uns["isost"]["grid"]["origin"])
    high = low + (volume.obsm["voxel"].max(axis=0) + 1) * 20.0
    np.testing.assert_allclose([*front.get_xlim(), *top.get_ylim()], [low[0], high[0], low[2], high[2]])


@pytest.mark.parametrize("projection", ["mean", "max"])
def test_a_pixel_is_the_mean_over_cells_or_the_largest(volume: ad.AnnData, projection: Any) -> None:
    figure = isost.pl.volume(volume, color="Core", projection=projection, vmin=0, vmax=1, show=False)
    front = panels(figure)[0]
    index, gene = volume.obsm["voxel"], np.asarray(volume.X)[:, 0].astype(float)
    behind = (index[:, 0] == 6) & (index[:, 1] == 5)
    mean = np.average(gene[behind], weights=volume.obs["density"][behind])
    expected = mean if projection == "mean" else gene[behind].max()
    np.testing.assert_allclose(pixels(front)[5, 6], plt.get_cmap("viridis")(expected))
    assert pixels(front)[0, 0, 3] == 0  # no tissue, no colour


def test_density_is_the_default_and_is_averaged_over_voxels(volume: ad.AnnData) -> None:
    figure = isost.pl.volume(volume, vmin=0, vmax=2, show=False)
    index, density = volume.obsm["voxel"], volume.obs["density"].to_numpy()
    behind = (index[:, 0] == 6) & (index[:, 1] == 5)
    expected = plt.get_cmap("viridis")(density[behind].mean() / 2)
    np.testing.assert_allclose(pixels(panels(figure)[0])[5, 6], expected)
    assert figure.axes[-1].get_title(loc="left") == "density"


def test_categories_show_the_most_cells_and_a_legend(volume: ad.AnnData) -> None:
    volume.uns["layer_colors"] = ["#112233", "#445566"]
    figure = isost.pl.volume(volume, color="layer", show=False)
    front, *_, view = panels(figure)
    assert to_hex(pixels(front)[5, 6]) == "#445566"
    assert to_hex(pixels(front)[5, 0]) == "#112233"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["shell", "core"]
    drawn = {to_hex(color) for color in view.collections[0].get_facecolors()}
    assert drawn == {"#112233", "#445566"}


def test_a_thin_volume_shows_both_ends_of_its_depth_wherever_depth_is_an_axis() -> None:
    index = np.stack(np.meshgrid(*map(np.arange, (90, 90, 11)), indexing="ij"), -1).reshape(-1, 3)
    thin = ad.AnnData(obs={"density": np.ones(len(index))}, obsm={"voxel": index, "spatial": 20.0 * index})
    thin.uns["isost"] = {"grid": {"origin": np.full(3, -10.0), "voxel_size": 20.0, "shape": np.array([90, 90, 11])}}
    _, side, top, view = panels(isost.pl.volume(thin, max_voxels=1000, show=False))
    for axis in (side.yaxis, top.yaxis, view.zaxis):
        assert list(axis.get_majorticklocs()) == [0, 200]
    assert len(view.xaxis.get_majorticklocs()) > 2
    page = isost.pl.volume(thin, max_voxels=1000, backend="plotly")
    assert list(page.layout.scene.zaxis.tickvals) == [0, 200]


def test_the_legend_leaves_out_categories_of_no_voxel_and_keeps_the_colours(volume: ad.AnnData) -> None:
    volume.obs["layer"] = volume.obs["layer"].cat.set_categories(["shell", "rare", "core"])
    volume.uns["layer_colors"] = ["#112233", "#778899", "#445566"]
    (legend,) = isost.pl.volume(volume, color="layer", show=False).legends
    drawn = {mark.get_label(): to_hex(mark.get_color()) for mark in legend.get_lines()}
    assert drawn == {"shell": "#112233", "core": "#445566"}


def test_measured_depths_are_pointed_at(volume: ad.AnnData) -> None:
    _, side, top, _ = panels(isost.pl.volume(volume, color="Core", show=False))
    depths = np.unique(volume.obsm["spatial"][volume.obs["measured"], 2])
    np.testing.assert_allclose(side.lines[0].get_xdata(), depths)
    np.testing.assert_allclose(top.lines[0].get_ydata(), depths)
    assert [text.get_text() for text in top.texts] == ["measured"]
    del volume.obs["measured"]
    top = panels(isost.pl.volume(volume, color="Core", show=False))[2]
    assert not top.texts


def test_the_view_has_true_proportions_and_higher_values_are_more_opaque(volume: ad.AnnData) -> None:
    figure = isost.pl.volume(volume, color="Core", show=False)
    figure.canvas.draw()
    view = panels(figure)[3]
    extent = (volume.obsm["voxel"].max(axis=0) + 1) * 20.0
    box = view._box_aspect
    np.testing.assert_allclose(box / box.max(), extent / extent.max())
    alpha = view.collections[0].get_facecolors()[:, 3]
    assert alpha.min() < 0.1 < 0.7 < alpha.max()


def test_many_voxels_are_drawn_as_blocks_and_the_figure_says_so(volume: ad.AnnData) -> None:
    view = panels(isost.pl.volume(volume, color="Core", unit="µm", max_voxels=100, show=False))[3]
    assert "blocks of 40 µm" in view.get_title()
    page = isost.pl.volume(volume, color="Core", unit="µm", max_voxels=100, backend="plotly")
    assert "blocks of 40 µm" in page.layout.title.subtitle.text
    assert not isost.pl.volume(volume, color="Core", backend="plotly").layout.title.subtitle.text


def in_layers(page: Any) -> list[Any]:
    return [trace for trace in page.data if trace.visible is False]


def test_the_page_has_every_voxel_once_in_its_layer(volume: ad.AnnData) -> None:
    page = isost.pl.volume(volume, color="Core", unit="µm", backend="plotly")
    layers = in_layers(page)
    assert len(layers) == len(np.unique(volume.obsm["voxel"][:, 2]))
    points = np.concatenate([np.c_[layer.x, layer.y, layer.z, layer.marker.color] for layer in layers])
    expected = np.c_[volume.obsm["spatial"], np.asarray(volume.X)[:, 0]]
    np.testing.assert_allclose(points[np.lexsort(points.T)], expected[np.lexsort(expected.T)], rtol=1e-5)
    assert {layer.marker.opacity for layer in layers} == {1.0}


def test_the_page_keeps_proportions_whatever_layer_is_shown(volume: ad.AnnData) -> None:
    space = isost.pl.volume(volume, color="Core", unit="µm", backend="plotly").layout.scene
    extent = (volume.obsm["voxel"].max(axis=0) + 1) * 20.0
    ratio = np.array([space.aspectratio.x, space.aspectratio.y, space.aspectratio.z])
    np.testing.assert_allclose(ratio / ratio.max(), extent / extent.max())
    np.testing.assert_allclose(np.diff([space.xaxis.range, space.yaxis.range, space.zaxis.range]).ravel(), extent)
    assert space.zaxis.title.text == "z (µm)"


def test_the_slider_shows_all_or_one_layer_and_names_the_measured(volume: ad.AnnData) -> None:
    page = isost.pl.volume(volume, color="Core", unit="µm", backend="plotly")
    steps = page.layout.sliders[0].steps
    assert [step.label for step in steps] == [
        "all", "20 µm", "40 µm (measured)", "60 µm", "80 µm", "100 µm (measured)", "120 µm",
    ]  # fmt: skip
    shown_first = [trace.visible is not False for trace in page.data]
    assert list(steps[0].args[0]["visible"]) == shown_first
    for i, step in enumerate(steps[1:]):
        (shown,) = [trace for trace, visible in zip(page.data, step.args[0]["visible"], strict=True) if visible]
        assert set(shown.z) == {20.0 * (i + 1)}


def test_shells_are_ever_more_opaque_towards_high_values(volume: ad.AnnData) -> None:
    page = isost.pl.volume(volume, color="Core", backend="plotly")
    shells = [trace for trace in page.data if trace.visible is not False]
    opacities = [shell.marker.opacity for shell in shells]
    assert opacities == sorted(set(opacities))
    means = [np.mean(shell.marker.color) for shell in shells]
    assert means == sorted(means)


def test_what_is_told_under_the_mouse(volume: ad.AnnData) -> None:
    layer = in_layers(isost.pl.volume(volume, color="Core", unit="µm", backend="plotly"))[0]
    for said in ("<b>Core: %{marker.color", "µm", "density: %{customdata[0]", "section_distance: %{customdata[1]"):
        assert said in layer.hovertemplate
    first = volume.obsm["voxel"][:, 2] == 0
    np.testing.assert_allclose(layer.customdata, volume.obs[["density", "section_distance"]][first], rtol=1e-6)


def test_categories_on_the_page_have_one_key_each_that_stays(volume: ad.AnnData) -> None:
    volume.obs["layer"] = volume.obs["layer"].where(volume.obsm["voxel"][:, 0] > 1)
    page = isost.pl.volume(volume, color="layer", backend="plotly")
    keys = [i for i, trace in enumerate(page.data) if trace.name]
    assert {page.data[i].name for i in keys} == {"unknown", "shell", "core"}
    for step in page.layout.sliders[0].steps:
        assert all(step.args[0]["visible"][i] for i in keys)
    assert "core" in set(np.concatenate([np.atleast_1d(layer.text) for layer in in_layers(page)]))


def test_threshold_leaves_low_values_out_of_the_3d_view(volume: ad.AnnData) -> None:
    page = isost.pl.volume(volume, color="Core", threshold=0.5, backend="plotly")
    assert min(layer.marker.color.min() for layer in in_layers(page)) >= 0.5
    half = isost.pl.volume(volume, color="Core", threshold="p50", backend="plotly")
    assert sum(len(layer.x) for layer in in_layers(half)) == pytest.approx(volume.n_obs / 2, abs=1)
    with pytest.raises(ValueError, match="no voxel has 'Core' of at least threshold=9"):
        isost.pl.volume(volume, color="Core", threshold=9, show=False)
    with pytest.raises(ValueError, match="'layer' is a category"):
        isost.pl.volume(volume, color="layer", threshold=0.5, show=False)


def test_the_page_is_one_file_that_needs_no_network(volume: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    isost.pl.volume(volume, color="Core", backend="plotly").write_html(path, include_plotlyjs=True)
    assert path.stat().st_size < 15e6
    assert '<script src="http' not in path.read_text()


def test_the_largest_page_is_light(volume: ad.AnnData, tmp_path: Path) -> None:
    index = np.stack(np.meshgrid(*map(np.arange, (50, 50, 40)), indexing="ij"), -1).reshape(-1, 3)
    rng = np.random.default_rng(0)
    large = ad.AnnData(np.zeros((len(index), 0), dtype=np.float32), uns=volume.uns, obsm={"voxel": index})
    for key in ("density", "uncertainty", "section_distance"):
        large.obs[key] = rng.random(len(index))
    large.obs["kind"] = pd.Categorical(rng.choice([f"a rather long name {i}" for i in range(20)], len(index)))
    path = tmp_path / "page.html"
    isost.pl.volume(large, color="kind", backend="plotly").write_html(path, include_plotlyjs=True)
    assert path.stat().st_size < 15e6


def test_shown_figures_are_not_returned(volume: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    from plotly import graph_objects as go

    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append("picture"))
    monkeypatch.setattr(go.Figure, "show", lambda self: shown.append("page"))
    assert isost.pl.volume(volume, show=True) is None
    assert isost.pl.volume(volume, show=True, backend="plotly") is None
    assert shown == ["picture", "page"]


def test_errors_say_what_is_wrong(volume: ad.AnnData) -> None:
    with pytest.raises(KeyError, match="did you mean 'Core'"):
        isost.pl.volume(volume, color="Cor", show=False)
    with pytest.raises(ValueError, match="backend='vtk' is unknown"):
        isost.pl.volume(volume, backend="vtk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="projection='sum' is unknown"):
        isost.pl.volume(volume, projection="sum")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="this AnnData is no volume"):
        isost.pl.volume(ad.AnnData(np.zeros((3, 2), dtype=np.float32)), show=False)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: isost.pl.volume(x, color="lost", show=False),
        lambda x: isost.pl.volume(x, color=["Core", "lost"], show=False),
        lambda x: isost.pl.cut(x, color="lost", z=60.0, show=False),
        lambda x: isost.pl.surface(x, color="lost", show=False),
        lambda x: isost.pl.animate(x, color="lost", show=False),
        lambda x: isost.pl.gene_grid(x, ["lost"], show=False),
    ],
)
def test_a_colour_that_is_missing_everywhere_is_refused(volume: ad.AnnData, draw: Any) -> None:
    for missing in (np.nan, pd.Categorical([None] * volume.n_obs)):
        volume.obs["lost"] = missing
        with pytest.raises((ValueError, TypeError), match=r"'lost' is (missing everywhere|a category)"):
            draw(volume)
    volume.obs["lost"] = np.where(volume.obs["measured"], np.nan, 1.0)
    draw(volume)
