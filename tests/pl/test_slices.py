from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

import isost
from isost.pl._color import MISSING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes


def titles(axes: list[Axes]) -> list[str]:
    return [ax.get_title(loc="left") for ax in axes]


def under_titles(axes: list[Axes]) -> list[str]:
    return [ax.texts[0].get_text() for ax in axes]


def generated_of(stack: ad.AnnData, depth: float) -> ad.AnnData:
    section = stack[:40].copy()
    section.obsm["spatial"][:, 2] = depth
    section.obs["source_section"] = section.obs["section"]
    section.layers["mean"] = np.full(section.shape, 0.5, dtype=np.float32)
    return section


def test_sections_stand_in_the_order_of_depth_with_unit_and_name(stack: ad.AnnData) -> None:
    shuffled = stack[np.random.default_rng(0).permutation(stack.n_obs)]
    axes = isost.pl.slices(shuffled, color="Gad1", unit="µm", show=False)
    assert titles(axes) == ["z = 0 µm", "z = 30 µm", "z = 90 µm"]
    assert under_titles(axes) == ["b", "a", "c"]


def test_panels_share_scale_aspect_and_limits(stack: ad.AnnData) -> None:
    axes = isost.pl.slices(stack, color="Gad1", show=False)
    boxes = []
    for ax in axes:
        assert ax.get_aspect() == 1
        assert (ax.get_xlim(), ax.get_ylim()) == (axes[0].get_xlim(), axes[0].get_ylim())
        ax.apply_aspect()
        boxes.append(ax.get_window_extent().size)
        assert ax.collections[0].norm.vmax == axes[0].collections[0].norm.vmax
    width, height = np.diff(axes[0].get_xlim())[0], np.diff(axes[0].get_ylim())[0]
    np.testing.assert_allclose(boxes, boxes[:1] * 3)
    assert boxes[0][0] / boxes[0][1] == pytest.approx(width / height)


def test_a_gene_is_shaded_over_all_sections_with_the_highest_on_top(stack: ad.AnnData) -> None:
    axes = isost.pl.slices(stack, color="Gad1", show=False)
    figure = axes[0].figure
    gene = np.asarray(stack[:, "Gad1"].X).ravel()
    drawn = axes[1].collections[0]
    in_section = (stack.obs["section"] == "a").to_numpy()
    order = np.argsort(gene[in_section])
    np.testing.assert_allclose(drawn.get_array(), gene[in_section][order])
    np.testing.assert_allclose(drawn.get_offsets(), stack.obsm["spatial"][in_section][order, :2])
    assert drawn.norm.vmax == pytest.approx(np.percentile(gene, 99))
    bars = [ax for ax in figure.axes if ax not in axes]
    assert [bar.get_title(loc="left") for bar in bars] == ["Gad1"]


def test_a_layer_and_limits(stack: ad.AnnData) -> None:
    plain = isost.pl.slices(stack, color="Gad1", vmin=0.1, vmax="p50", show=False)[0].collections[0]
    double = isost.pl.slices(stack, color="Gad1", layer="doubled", show=False)[0].collections[0]
    assert plain.norm.vmin == 0.1
    np.testing.assert_allclose(double.get_array(), 2 * plain.get_array())


def test_rows_are_about_equally_long(stack: ad.AnnData) -> None:
    axes = isost.pl.slices([stack] * 6, ncols=5, show=False)
    rows = [round(ax.get_position().y0, 6) for ax in axes]
    assert [rows.count(row) for row in sorted(set(rows))] == [3, 3]


def test_categories_take_their_stored_colours_and_one_legend(stack: ad.AnnData) -> None:
    axes = isost.pl.slices(stack, color="cell_type", show=False)
    colors = [to_hex(color) for color in axes[0].collections[0].get_facecolors()]
    expected = stack.obs["cell_type"][:40].map({"neuron": "#ff0000", "glia": "#0000ff"})
    assert colors == expected.tolist()
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["neuron", "glia"]
    assert legend.get_title().get_text() == "cell_type"


def test_sections_with_other_categories_keep_their_colours(stack: ad.AnnData) -> None:
    parts = [stack[:40].copy(), stack[40:80].copy()]
    parts[0] = parts[0][parts[0].obs["cell_type"] == "glia"].copy()
    assert list(parts[0].obs["cell_type"].cat.categories) == ["glia"]
    (legend,) = isost.pl.slices(parts, color="cell_type", show=False)[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["glia", "neuron"]
    assert [to_hex(mark.get_color()) for mark in legend.get_lines()] == ["#0000ff", "#ff0000"]


@pytest.mark.parametrize("categories", [[1, 2], ["glia", "other"], []])
def test_categories_of_other_types_are_drawn_together(stack: ad.AnnData, categories: list[object]) -> None:
    parts = [stack[:40].copy(), stack[40:80].copy()]
    parts[0].obs["cell_type"] = parts[0].obs["cell_type"].cat.as_ordered()
    parts[1].obs["cell_type"] = pd.Categorical(np.resize([*categories, None], 40), categories=categories)
    (legend,) = isost.pl.slices(parts, color="cell_type", show=False)[0].figure.legends
    expected = dict.fromkeys(["neuron", "glia", *map(str, categories)])
    assert [text.get_text() for text in legend.get_texts()] == list(expected)


@pytest.mark.parametrize("missing", [np.nan, None])
def test_a_colour_that_is_missing_everywhere_is_grey(stack: ad.AnnData, missing: object) -> None:
    stack.obs["lost"] = pd.Series([missing] * stack.n_obs, index=stack.obs_names)
    axes = isost.pl.slices(stack, color="lost", show=False)
    axes[0].figure.canvas.draw()
    assert {to_hex(color) for color in axes[0].collections[0].get_facecolors()} == {MISSING}


def test_without_colour_there_is_only_the_outline(stack: ad.AnnData) -> None:
    axes = isost.pl.slices(stack, show=False)
    assert len(axes[0].figure.axes) == 3
    assert not axes[0].figure.legends


def test_one_scale_bar_of_round_length(stack: ad.AnnData) -> None:
    axes = isost.pl.slices(stack, unit="µm", show=False)
    bars = [[artist for artist in ax.artists if isinstance(artist, AnchoredSizeBar)] for ax in axes]
    assert [len(bar) for bar in bars] == [1, 0, 0]
    assert bars[0][0].txt_label.get_text() == "100 µm"


def test_dots_are_as_wide_as_cells_are_apart(stack: ad.AnnData) -> None:
    ax = isost.pl.slices(stack, size=30.0, show=False)[0]
    ax.apply_aspect()
    points_per_unit = ax.get_window_extent().width / ax.figure.dpi * 72 / np.diff(ax.get_xlim())[0]
    assert np.sqrt(ax.collections[0].get_sizes()[0]) == pytest.approx(30 * points_per_unit, rel=1e-6)


def test_generated_sections_stand_between_and_are_marked(stack: ad.AnnData) -> None:
    axes = isost.pl.slices(stack, color="Gad1", layer="mean", generated=generated_of(stack, 60.0), show=False)
    assert titles(axes) == ["z = 0", "z = 30", "z = 60", "z = 90"]
    assert under_titles(axes) == ["b", "a", "generated", "c"]
    solid = [ax.spines["left"].get_linestyle() == "solid" for ax in axes]
    assert solid == [True, True, False, True]
    # the layer where there is one, X elsewhere
    assert set(axes[2].collections[0].get_array()) == {0.5}
    assert axes[0].collections[0].get_array().max() > 0.5


def test_a_section_generated_at_a_measured_depth_is_the_measured_one(stack: ad.AnnData) -> None:
    section = generated_of(stack, 0.0)
    section.obs["measured"] = True
    assert under_titles(isost.pl.slices(section, show=False)) == [""]


def test_generated_sections_alone_are_told_apart_by_their_cut(stack: ad.AnnData) -> None:
    both = ad.concat([generated_of(stack, 60.0), generated_of(stack, 20.0)], index_unique="-")
    both.obs["cut"] = np.repeat(["0", "1"], 40)
    both.obsm["spatial"][:40, 2] = np.linspace(40, 80, 40)
    assert titles(isost.pl.slices(both, show=False)) == ["z = 20", "z = 40 … 80"]
    assert under_titles(isost.pl.slices(generated_of(stack, 60.0), show=False)) == ["generated"]


def test_lists_dicts_and_depths_from_obs(stack: ad.AnnData) -> None:
    parts = {name: stack[stack.obs["section"] == name].copy() for name in ("c", "a")}
    for name, part in parts.items():
        part.obs["z"] = part.obsm["spatial"][:, 2]
        part.obsm["spatial"] = part.obsm["spatial"][:, :2]
        assert name in set(part.obs["section"])
    for given in (parts, list(parts.values())):
        axes = isost.pl.slices(given, color="cell_type", show=False)
        assert titles(axes) == ["z = 30", "z = 90"]
        assert under_titles(axes) == ["a", "c"]


def test_sections_without_depth_keep_their_order(stack: ad.AnnData) -> None:
    parts = [stack[:5].copy(), stack[50:55].copy()]
    for part in parts:
        part.obsm["spatial"] = part.obsm["spatial"][:, :2]
        del part.obs["section"]
    assert titles(isost.pl.slices(parts, show=False)) == ["section_0", "section_1"]


def test_names_and_depths_are_those_of_a_stack_of_the_same_sections() -> None:
    sections = isost.datasets.organ(n_sections=3, cells_per_section=30, n_genes=20)
    for depth, section in zip([40.0, 0.0, 90.0], sections, strict=True):
        section.obs["z"] = depth
        section.obsm["spatial"] = np.c_[section.obsm["spatial"], np.full(section.n_obs, 7.0)]
        section.obs["section"] = "same"
    raw = isost.pl.slices(sections, show=False)
    stack = isost.pp.slice_stack(sections, n_comps=4, check=False)
    assert (titles(raw), under_titles(raw)) == (["z = 0", "z = 40", "z = 90"], ["section_1", "section_0", "section_2"])
    for given in (stack, isost.io.split_sections(stack)):
        drawn = isost.pl.slices(given, show=False)
        assert (titles(drawn), under_titles(drawn)) == (titles(raw), under_titles(raw))
    moved = isost.pp.slice_stack(sections, z=[1.0, 2.0, 3.0], n_comps=4, check=False)  # obs["z"] is as it was
    again = isost.pp.slice_stack(moved, n_comps=4, check=False)
    assert titles(isost.pl.slices(again, show=False)) == ["z = 1", "z = 2", "z = 3"]


def test_depths_are_written_short(stack: ad.AnnData) -> None:
    stack.obsm["spatial"][:, 2] -= 30.00012345
    assert titles(isost.pl.slices(stack, show=False)) == ["z = -30", "z = 0", "z = 60"]


def test_columns_that_are_no_categories_join(stack: ad.AnnData) -> None:
    parts = [stack[:40].copy(), stack[40:80].copy()]
    parts[0].obs["kind"], parts[1].obs["kind"] = "x", "y"
    legend = isost.pl.slices(parts, color="kind", show=False)[0].figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["x", "y"]


def test_chosen_sections_and_columns(stack: ad.AnnData) -> None:
    axes = isost.pl.slices(stack, sections=["c", "b"], ncols=1, show=False)
    assert titles(axes) == ["z = 0", "z = 90"]
    assert axes[0].get_position().y0 > axes[1].get_position().y1
    assert titles(isost.pl.slices(stack, sections="a", show=False)) == ["z = 30"]


@pytest.mark.parametrize("color", ["Gad1", "cell_type"])
def test_into_given_axes(stack: ad.AnnData, color: str) -> None:
    figure, given = plt.subplots(1, 3)
    assert isost.pl.slices(stack, color=color, ax=given) == list(given)
    assert len(figure.axes) == (4 if color == "Gad1" else 3)
    _, one = plt.subplots()
    assert isost.pl.slices(stack, color=color, sections="a", ax=one) == [one]


def test_shown_figures_are_not_returned(stack: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    assert isost.pl.slices(stack, show=True) is None
    assert shown == [1]


def test_errors_say_what_is_wrong(stack: ad.AnnData) -> None:
    with pytest.raises(KeyError, match="did you mean 'Gad1'"):
        isost.pl.slices(stack, color="Gad2", show=False)
    with pytest.raises(KeyError, match=r"sections=\['d'\] are not among.*'b', 'a', 'c'"):
        isost.pl.slices(stack, sections=["d"], show=False)
    with pytest.raises(KeyError, match="no section has a layer 'counts'"):
        isost.pl.slices(stack, color="Gad1", layer="counts", show=False)
    with pytest.raises(KeyError, match=r"no obsm\['xy'\]; there are \['spatial'\]"):
        isost.pl.slices(stack, spatial_key="xy", show=False)
    with pytest.raises(ValueError, match="2 axes for 3 sections"):
        isost.pl.slices(stack, ax=plt.subplots(1, 2)[1])
    with pytest.raises(ValueError, match="no section to draw"):
        isost.pl.slices([], show=False)
    with pytest.raises(ValueError, match="no cells"):
        isost.pl.slices([stack[:0].copy()], show=False)


def test_one_cell_alone_is_drawn(stack: ad.AnnData) -> None:
    (ax,) = isost.pl.slices([stack[:1].copy()], color="Gad1", show=False)
    ax.figure.canvas.draw()


@pytest.mark.data
def test_the_real_hypothalamus(data_dir: Path) -> None:
    adata = ad.read_h5ad(data_dir / "merfish_hypothalamus_poa_5sections.h5ad")
    adata.obsm["spatial"] = np.asarray(adata.obsm["spatial3d"])
    axes = isost.pl.slices(adata, color="Gad1", unit="µm", show=False)
    assert titles(axes) == [f"z = {z} µm" for z in (0, 50, 100, 150, 200)]
    legend = isost.pl.slices(adata, color="cell_class", show=False)[0].figure.legends[0]
    assert len(legend.get_texts()) == adata.obs["cell_class"].nunique()
