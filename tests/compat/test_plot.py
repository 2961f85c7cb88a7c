from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isost.compat import plot_multi_gene_3d


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    values = {name: random.normal(size=200) for name in ("a", "b")}
    return pd.DataFrame({axis: random.uniform(size=200) for axis in "xyz"} | values | {"flat": 1.0})


def test_each_voxel_is_drawn_by_its_highest_gene_and_the_table_stays(table: pd.DataFrame) -> None:
    before = table.copy()
    figure = plot_multi_gene_3d(table, ["a", "b"], noise_std=0.0, offset=5.0)
    pd.testing.assert_frame_equal(table, before)
    scores = (table[["a", "b"]] - table[["a", "b"]].mean()) / table[["a", "b"]].std(ddof=0)
    a, b, frame = figure.data
    rows = (scores["b"] > scores["a"]) & (scores["b"] > 0)
    assert (a.name, b.name, frame.mode) == ("a", "b", "lines")
    np.testing.assert_allclose(b.x, table.loc[rows, "x"] + 5)
    np.testing.assert_allclose(b.marker.color, scores.loc[rows, "b"])
    assert (b.marker.cmin, b.marker.cmax, b.marker.size, b.marker.opacity) == (0.2, 0.8, 0.5, 0.5)


def test_points_are_jittered_by_the_same_noise_each_time(table: pd.DataFrame) -> None:
    first, again = (plot_multi_gene_3d(table, ["a"], noise_std=0.1) for _ in range(2))
    np.testing.assert_array_equal(first.data[0].x, again.data[0].x)
    plain = plot_multi_gene_3d(table, ["a"], noise_std=0.0)
    assert not np.array_equal(first.data[0].x, plain.data[0].x)


def test_colours_and_frames_are_those_given(table: pd.DataFrame) -> None:
    red, blue = [[0, "white"], [1, "red"]], [[0, "white"], [1, "blue"]]
    listed = plot_multi_gene_3d(table, ["a", "b"], gene_colorscales=[red])
    assert [trace.marker.colorscale[1][1] for trace in listed.data[:2]] == ["red", "red"]
    named = plot_multi_gene_3d(table, ["a", "b"], gene_colorscales=[red], custom_colorscales_dict={"b": blue})
    assert [trace.marker.colorscale[1][1] for trace in named.data[:2]] == ["red", "blue"]
    framed = plot_multi_gene_3d(table, ["a"], depth_list=[0.2, 0.7])
    assert {z for z in framed.data[-1].z if z is not None} == {0.2, 0.7}


def test_a_gene_that_is_nowhere_high_is_left_out(table: pd.DataFrame) -> None:
    figure = plot_multi_gene_3d(table, ["flat"])
    assert [trace.mode for trace in figure.data] == ["lines"]


def test_what_is_missing_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match="no column 'c'"):
        plot_multi_gene_3d(table, ["c"])
    with pytest.raises(ValueError, match="names no gene"):
        plot_multi_gene_3d(table, [])
