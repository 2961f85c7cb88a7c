from __future__ import annotations

import json
import sys
from xml.etree import ElementTree as ET

import dask.array as da
import nibabel
import nrrd
import numpy as np
import pytest
import scipy.sparse as sp
import tifffile

from isost import io
from isost.io import _image

FIRST = [11.25, -18.75, 6.25]  # centre of voxel (0, 0, 0)
CHANNELS = ["gene2", "density", "gene0"]


@pytest.fixture
def expected(volume):
    """The image (x, y, z, channel) filled voxel by voxel."""
    image = np.full((4, 3, 5, 3), -1.0, dtype=np.float32)
    for (x, y, z), row in zip(volume.obsm["voxel"], volume.obs_names, strict=True):
        image[x, y, z] = [volume[row, "gene2"].X.item(), volume.obs.loc[row, "density"], volume[row, "gene0"].X.item()]
    return image


def test_nrrd(volume, expected, tmp_path):
    io.write_image(volume, tmp_path / "v.nrrd", channels=CHANNELS, unit="µm", fill=-1)
    image, header = nrrd.read(str(tmp_path / "v.nrrd"))
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_allclose(header["space directions"][:3], 2.5 * np.eye(3))
    np.testing.assert_allclose(header["space origin"], FIRST)
    assert header["space units"] == ["um"] * 3
    assert header["kinds"] == ["domain", "domain", "domain", "list"]
    assert json.loads(header["channels"]) == CHANNELS


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(volume, expected, tmp_path, suffix):
    io.write_image(volume, tmp_path / f"v{suffix}", channels=CHANNELS, unit="mm", fill=-1)
    image = nibabel.load(tmp_path / f"v{suffix}")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), expected)
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [*FIRST, 1])
    np.testing.assert_allclose(image.affine @ [1, 2, 3, 1], [FIRST[0] + 2.5, FIRST[1] + 5, FIRST[2] + 7.5, 1])
    assert image.header.get_xyzt_units()[0] == "mm"
    assert json.loads(image.header.extensions[0].get_content()) == CHANNELS


@pytest.mark.parametrize("suffix", [".tif", ".ome.tiff"])
def test_ome_tiff(volume, expected, tmp_path, suffix):
    io.write_image(volume, tmp_path / f"v{suffix}", channels=CHANNELS, unit="µm", fill=-1)
    with tifffile.TiffFile(tmp_path / f"v{suffix}") as tiff:
        series = tiff.series[0]
        assert series.axes == "CZYX"
        np.testing.assert_array_equal(series.asarray(), expected.T)
        pixels = ET.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
    assert [pixels.get(f"PhysicalSize{axis}") for axis in "XYZ"] == ["2.5"] * 3
    assert pixels.get("PhysicalSizeXUnit") == "µm"
    assert [channel.get("Name") for channel in pixels.iterfind("{*}Channel")] == CHANNELS
    planes = {(int(p.get("TheC")), int(p.get("TheZ"))): p for p in pixels.iterfind("{*}Plane")}
    assert [float(planes[0, 0].get(f"Position{axis}")) for axis in "XYZ"] == FIRST
    assert float(planes[2, 4].get("PositionZ")) == FIRST[2] + 4 * 2.5


@pytest.mark.parametrize("limit", [719, 720])
def test_a_large_tiff_is_a_bigtiff(volume, expected, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(_image, "_TIFF_BYTES", limit)
    io.write_image(volume, tmp_path / "v.tif", channels=CHANNELS, fill=-1)
    with tifffile.TiffFile(tmp_path / "v.tif") as tiff:
        assert tiff.is_bigtiff == (expected.nbytes > limit)
        np.testing.assert_array_equal(tiff.series[0].asarray(), expected.T)


def test_one_channel_is_a_plain_3d_image_and_its_unit_is_not_made_up(volume, expected, tmp_path):
    for name in ("v.nrrd", "v.nii", "v.tif"):
        io.write_image(volume, tmp_path / name, channels="gene0", fill=-1)
    image, header = nrrd.read(str(tmp_path / "v.nrrd"))
    np.testing.assert_array_equal(image, expected[..., 2])
    io.write_image(volume, tmp_path / "v.nrrd", channels="density", fill=-1)
    np.testing.assert_array_equal(nrrd.read(str(tmp_path / "v.nrrd"))[0], expected[..., 1])
    assert "space units" not in header
    nifti = nibabel.load(tmp_path / "v.nii")
    assert nifti.shape == (4, 3, 5)
    assert nifti.header.get_xyzt_units()[0] == "unknown"
    with tifffile.TiffFile(tmp_path / "v.tif") as tiff:
        assert 'PhysicalSizeXUnit="reference frame"' in tiff.ome_metadata
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.nii", "v.nrrd", "v.tif"]


def test_a_lazy_volume_is_made_a_few_layers_at_a_time(volume, monkeypatch):
    at_once, _, names = _image.volume_image(volume, None, fill=0)
    assert at_once.numblocks == (3, 1, 1, 1)
    monkeypatch.setattr(_image, "_SLAB_BYTES", 2 * 3 * 4 * 3 * 4)  # two layers
    volume.X = da.from_array(volume.X, chunks=(7, -1))
    lazy, grid, names = _image.volume_image(volume, None, fill=0)
    assert lazy.numblocks == (3, 3, 1, 1)
    assert names == ["gene0", "gene1", "gene2"]
    assert grid.shape == (4, 3, 5)
    np.testing.assert_array_equal(lazy, at_once)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_array])
def test_sparse_expression(volume, expected, tmp_path, kind):
    volume.X = kind(volume.X)
    io.write_image(volume, tmp_path / "v.nrrd", channels=CHANNELS, fill=-1)
    np.testing.assert_array_equal(nrrd.read(str(tmp_path / "v.nrrd"))[0], expected)


@pytest.mark.parametrize("micro", ["um", "\N{GREEK SMALL LETTER MU}m"])
def test_micrometres_can_be_spelt_in_other_ways(volume, tmp_path, micro):
    io.write_image(volume, tmp_path / "v.nrrd", unit=micro)
    assert nrrd.read(str(tmp_path / "v.nrrd"))[1]["space units"] == ["um"] * 3


def test_errors(volume, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must end in one of \.nrrd, "):
        io.write_image(volume, tmp_path / "v.png")
    with pytest.raises(ValueError, match="unit must be 'µm', 'mm' or None, not 'cm'"):
        io.write_image(volume, tmp_path / "v.tif", unit="cm")
    with pytest.raises(KeyError, match=r"\['Gad1'\] are neither genes nor columns of obs"):
        io.write_image(volume, tmp_path / "v.tif", channels=["gene0", "Gad1"])
    with pytest.raises(ValueError, match=r"\['cell_type'\] of obs must be numeric"):
        io.write_image(volume, tmp_path / "v.tif", channels="cell_type")
    monkeypatch.setitem(sys.modules, "nrrd", None)
    with pytest.raises(ImportError, match=r"needs pynrrd: pip install 'isost\[images\]'"):
        io.write_image(volume, tmp_path / "v.nrrd")
    volume.var_names = ["a", "a", "b"]
    with pytest.raises(ValueError, match="share a name"):
        io.write_image(volume, tmp_path / "v.tif")
    del volume.obsm["voxel"]
    with pytest.raises(KeyError, match="this AnnData is no volume"):
        io.write_image(volume, tmp_path / "v.tif")
    assert not list(tmp_path.iterdir())
