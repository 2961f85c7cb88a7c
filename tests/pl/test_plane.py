from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib import pyplot as plt
from scipy.interpolate import RegularGridInterpolator

import isost
from isost.pl._color import Classes, Coloring, Numbers
from isost.pl._grid import Voxels
from isost.pl._plane import Plane, plane_at, sampled

if TYPE_CHECKING:
    import anndata as ad


@pytest.fixture
def block() -> Voxels:
    index = np.stack(np.meshgrid(*map(np.arange, (5, 4, 6)), indexing="ij"), -1).reshape(-1, 3)
    return Voxels(index, np.ones(len(index)), np.array([10.0, 20.0, -30.0]), 2.0)


def numbers(values: np.ndarray) -> Coloring:
    return Coloring.of(Numbers("x", values), cmap="viridis", vmin=None, vmax=None)


def test_numbers_between_centres_are_trilinear(block: Voxels) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=len(block.index))
    axes = [block.origin[i] + (np.arange(n) + 0.5) * 2 for i, n in enumerate((5, 4, 6))]
    places = rng.uniform([a[0] for a in axes], [a[-1] for a in axes], (50, 3))
    expected = RegularGridInterpolator(axes, block.dense(values))(places)
    np.testing.assert_allclose(sampled(block, numbers(values), places), expected)


def test_tissue_ends_at_the_faces_of_its_voxels(block: Voxels) -> None:
    values = np.ones(len(block.index))
    just_inside_and_outside = block.origin + np.array([[0.01, 4, 6], [-0.01, 4, 6]])
    np.testing.assert_array_equal(sampled(block, numbers(values), just_inside_and_outside), [1, np.nan])


def test_a_category_is_the_one_of_most_weight(block: Voxels) -> None:
    codes = (block.index[:, 0] >= 2).astype(np.intp)
    codes[block.index[:, 0] == 4] = -1
    coloring = Coloring.of(Classes("c", codes, ["a", "b"], ["r", "g"]), cmap="viridis", vmin=None, vmax=None)
    along = block.origin + np.array([[3.9, 4, 6], [4.1, 4, 6], [7.1, 4, 6], [9.5, 4, 6]])
    np.testing.assert_array_equal(sampled(block, coloring, along), [0, 1, 1, np.nan])


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 0, 0), (0.3, -1, 2)])
def test_pixels_lie_in_the_plane_and_are_evenly_spaced(block: Voxels, normal: tuple[float, ...]) -> None:
    point = np.array([15.0, 24, -24])
    places = Plane.through(point, np.array(normal) / np.linalg.norm(normal), block).places(0.5)
    np.testing.assert_allclose((places - point) @ np.array(normal), 0, atol=1e-9)
    for axis in (0, 1):
        np.testing.assert_allclose(np.linalg.norm(np.diff(places, axis=axis), axis=-1), 0.5, rtol=0.1)


def test_a_depth_has_the_coordinates_x_and_y(block: Voxels) -> None:
    places = Plane.at_depth(-25.0, block).places(2.0)
    np.testing.assert_allclose(places[0, 0], [11, 21, -25])
    np.testing.assert_allclose(places[-1, -1], [19, 27, -25])


def test_errors_say_what_is_wrong(block: Voxels) -> None:
    for z, plane in ((None, None), (1.0, ([0, 0, 0], [0, 0, 1]))):
        with pytest.raises(ValueError, match="give one of z="):
            plane_at(z, plane, block)
    with pytest.raises(ValueError, match=r"z = 5 lies outside .* -30 to -18"):
        plane_at(5.0, None, block)
    for wrong in (([0, 0, 0], [0, 0, 0]), ([0, 0, np.nan], [0, 0, 1])):
        with pytest.raises(ValueError, match="a plane is a point and a normal"):
            plane_at(None, wrong, block)
    with pytest.raises(ValueError, match="does not meet the volume"):
        plane_at(None, ([0, 0, 90.0], [0, 0, 1]), block)


def test_a_cut_shows_the_volume_at_its_depth(volume: ad.AnnData) -> None:
    ax = isost.pl.cut(volume, color="Depth", z=60.0, pixel_size=20.0, vmin=0, vmax=2, unit="µm", show=False)
    image = np.asarray(ax.images[0].get_array())
    at = {tuple(voxel): value for voxel, value in zip(volume.obsm["voxel"].tolist(), volume.X[:, 1], strict=True)}
    np.testing.assert_allclose(image[5, 6], colormaps["viridis"](float(at[6, 5, 2]) / 2))
    assert image[0, 0, 3] == 0
    assert ax.get_title(loc="left") == "z = 60 µm"
    assert ax.texts[0].get_text() == "→ x   ↑ y"


def test_measured_sections_are_marked_where_they_cross(volume: ad.AnnData) -> None:
    upright = isost.pl.cut(volume, color="Depth", plane=([200, 50, 60], [0, 1, 0]), show=False)
    assert [line.get_xy1()[1] + 60 for line in upright.lines] == pytest.approx([40, 100])
    assert upright.texts[0].get_text() == "→ x   ↑ z   normal y"
    assert not isost.pl.cut(volume, color="Depth", z=60.0, show=False).lines


def test_a_plane_is_told_by_a_point_with_its_unit_and_by_its_normal(volume: ad.AnnData) -> None:
    ax = isost.pl.cut(volume, color="Depth", plane=([200, 50, 60], [0, -3, -4]), unit="µm", show=False)
    assert ax.get_title(loc="left") == "plane through (200, 50, 60) µm"
    assert ax.texts[0].get_text() == "→ x   ↑ (0, 0.8, -0.6)   normal (0, 0.6, 0.8)"


def test_a_cut_into_given_axes_keeps_them(volume: ad.AnnData) -> None:
    _, ax = plt.subplots()
    assert isost.pl.cut(volume, color="layer", z=60.0, ax=ax) is ax
