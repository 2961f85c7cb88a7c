from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import spatialdata
from anndata import AnnData
from spatialdata import models, transformations

import isost
from isost import io


@pytest.fixture(scope="module")
def stack():
    return isost.pp.slice_stack(isost.datasets.organ(n_sections=3, cells_per_section=60, n_genes=20), n_comps=4)


@pytest.fixture(scope="module")
def sdata(shared_volume, stack, tmp_path_factory):
    """Written to OME-Zarr and read back."""
    path = tmp_path_factory.mktemp("ome") / "s.zarr"
    given = stack.copy()
    for table in (given.obs, given.var):
        table.index = table.index.astype("string")  # as read from a file of pandas 3
    io.to_spatialdata(shared_volume, given, channels=["gene0", "gene1", "gene2", "density"]).write(path)
    return spatialdata.read_zarr(path)


def test_the_volume_is_an_image_in_physical_units(volume, sdata):
    image = sdata.images["volume"]
    assert image.dims == ("c", "z", "y", "x")
    assert image.shape == (4, 5, 3, 4)
    assert models.get_channel_names(image) == ["gene0", "gene1", "gene2", "density"]
    # genes of this volume are the positions of its voxels: pixels must come to lie where they say
    axes = ("x", "y", "z")
    to_global = transformations.get_transformation(image).to_affine_matrix(axes, axes)
    for voxel, position in zip(volume.obsm["voxel"], volume.obsm["spatial"], strict=True):
        pixel = image.isel(dict(zip(axes, voxel, strict=True)))
        np.testing.assert_allclose((to_global @ [pixel.x, pixel.y, pixel.z, 1])[:3], position)
        np.testing.assert_allclose(pixel[:3], position)
    x, y, z = volume.obsm["voxel"].T
    np.testing.assert_allclose(image.sel(c="density").to_numpy()[z, y, x], volume.obs["density"], rtol=1e-6)
    outside = np.ones((5, 3, 4), dtype=bool)
    outside[z, y, x] = False
    assert (image.to_numpy()[:, outside] == 0).all()


def test_sections_are_tables_that_annotate_their_cells(stack, sdata):
    for name in stack.obs["section"].cat.categories:
        section, table = stack[stack.obs["section"] == name], sdata.tables[name]
        np.testing.assert_array_equal(table.X.toarray(), section.X.toarray())
        np.testing.assert_array_equal(table.obs["cell_type"], section.obs["cell_type"])
        cells = sdata.points[f"{name}_cells"].compute()
        np.testing.assert_array_equal(cells[["x", "y", "z"]], section.obsm["spatial"])
        assert transformations.get_transformation(sdata.points[f"{name}_cells"]) == transformations.Identity()
        assert table.uns["spatialdata_attrs"]["region"] == f"{name}_cells"


@pytest.mark.parametrize("as_path", [True, False])
def test_sections_are_read_back(stack, sdata, as_path):
    found = io.read_sections(sdata.path if as_path else sdata)
    assert list(found) == list(stack.obs["section"].cat.categories)
    again = isost.pp.slice_stack(found, n_comps=4)
    np.testing.assert_array_equal(again.obsm["spatial"], stack.obsm["spatial"])
    np.testing.assert_array_equal(again.X.toarray(), stack.X.toarray())
    assert list(again.obs) == list(stack.obs)
    assert "spatialdata_attrs" in sdata.tables["section0"].uns  # the caller's own is as it was


def test_one_table_over_transformed_shapes():
    """Two sections in pixels of their own, registered by an affine transformation, cells in a shuffled order."""
    rng = np.random.default_rng(0)
    circles, obs, expected = {}, [], []
    for i, scale in enumerate([2.0, 0.5]):
        pixels = rng.random((8, 2))
        moved = transformations.Sequence(
            [transformations.Scale([scale] * 2, ("x", "y")), transformations.Translation([5.0 * i, 1.0], ("x", "y"))]
        )
        circles[f"s{i}"] = models.ShapesModel.parse(
            pixels, geometry=0, radius=0.1, index=np.arange(10, 18), transformations={"aligned": moved}
        )
        order = rng.permutation(8)
        obs.append(pd.DataFrame({"region": f"s{i}", "instance": 10 + order, "slice": f"slice{i}"}))
        expected.append((pixels * scale + [5.0 * i, 1.0])[order])
    obs = pd.concat(obs, ignore_index=True).astype({"region": "category"})
    obs.index = obs.index.astype(str)
    table = models.TableModel.parse(
        AnnData(rng.random((16, 3)), obs=obs), region=["s0", "s1"], region_key="region", instance_key="instance"
    )
    sdata = spatialdata.SpatialData(shapes=circles, tables={"table": table})
    with pytest.raises(KeyError, match=r"no coordinate system 'global'; .* \(it has \['aligned'\]"):
        io.read_sections(sdata, section_key="slice")
    found = io.read_sections(sdata, section_key="slice", coordinate_system="aligned")
    assert list(found) == ["slice0", "slice1"]
    for section, places in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(section.obsm["spatial"], places)
        assert "spatialdata_attrs" not in section.uns


def test_tables_without_elements_keep_their_places_or_are_refused():
    section = AnnData(np.ones((6, 2)), obsm={"spatial": np.arange(12.0).reshape(6, 2)})
    sdata = spatialdata.SpatialData(tables={"a": section, "b": section.copy()})
    image = models.Image2DModel.parse(np.ones((1, 4, 4)), transformations={"aligned": transformations.Identity()})
    sdata.images["image"] = image  # in a coordinate system that the tables have no need of
    np.testing.assert_array_equal(io.read_sections(sdata)["b"].obsm["spatial"], section.obsm["spatial"])
    del sdata.tables["a"].obsm["spatial"]
    with pytest.raises(KeyError, match="table 'a' annotates no element"):
        io.read_sections(sdata)


def test_cells_need_a_depth(volume):
    flat = AnnData(np.ones((6, 2)), obsm={"spatial": np.ones((6, 2))})
    with pytest.raises(ValueError, match="section 's' has no x, y and z"):
        io.to_spatialdata(volume, {"s": flat})


def test_names_that_spatialdata_does_not_allow_are_changed_and_told(volume, stack, tmp_path, caplog):
    names = {"section0": "slice 1 (left)", "section1": "__b", "section2": "c-3.x"}
    sections = {names[name]: section for name, section in io.split_sections(stack).items()}
    with caplog.at_level("WARNING", logger="isost"):
        io.to_spatialdata(volume, sections).write(tmp_path / "s.zarr")
    assert "'slice 1 (left)': 'slice_1__left_'" in caplog.text
    assert list(io.read_sections(tmp_path / "s.zarr")) == ["_b", "c-3.x", "slice_1__left_"]


@pytest.mark.parametrize("names", [["a", "A"], ["a", "a_cells"], ["a", "volume"]])
def test_names_that_would_be_one_are_refused(volume, stack, names):
    sections = dict(zip(names, io.split_sections(stack).values(), strict=False))
    with pytest.raises(ValueError, match="have the same name in SpatialData"):
        io.to_spatialdata(volume, sections)


def test_text_of_pandas_3_is_written(stack, shared_volume, tmp_path):
    section = stack[stack.obs["section"] == stack.obs["section"].iloc[0]].copy()
    for table in (section.obs, section.var):
        table.index = table.index.astype("string")
        table["id"] = table.index  # each its own, so that no labels are made of them
    io.to_spatialdata(shared_volume, {"a": section}, channels=["density"]).write(tmp_path / "s.zarr")
    (found,) = (t for name, t in spatialdata.read_zarr(tmp_path / "s.zarr").tables.items() if "a" in name)
    assert [*found.obs["id"]] == [*section.obs["id"]]
    assert [*found.var["id"]] == [*section.var["id"]]
