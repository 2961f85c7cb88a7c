"""The second half of the table of errors, each of them provoked: images, plots, scores, grids and bundled data."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from matplotlib import pyplot as plt
from numcodecs.blosc import Blosc
from numcodecs.pickles import Pickle
from numcodecs.vlen import VLenUTF8

import isost
from isost.metrics import Section, baseline, score
from isost.volume import Grid, default_voxel_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

TABLE = Path(__file__).parents[1] / "docs" / "errors.md"
_, _, SECOND_HALF = TABLE.read_text().partition("\n## Volumes as images")
ROWS = [row for row in re.findall(r"(?m)^\| (.+?) \| ", SECOND_HALF) if row != "message"]


class World(NamedTuple):
    """What errors are provoked with; every test has its own."""

    sections: list[AnnData]
    volume: AnnData
    folder: Path

    def image(self, name: str = "v.tif", **kws: Any) -> None:
        isost.io.write_image(self.volume, self.folder / name, **kws)

    def draw(self, **kws: Any) -> Any:
        return isost.pl.volume(self.volume, show=False, **kws)

    def cut(self, **kws: Any) -> Any:
        return isost.pl.cut(self.volume, show=False, **kws)

    def slices(self, **kws: Any) -> Any:
        return isost.pl.slices(self.sections, show=False, **kws)

    def surface(self, **kws: Any) -> Any:
        return isost.pl.surface(self.volume, show=False, **kws)

    def without(self, column: str) -> AnnData:
        del self.volume.obs[column]
        return self.volume

    def with_nan(self, column: str) -> AnnData:
        self.volume.obs[column] = np.nan
        return self.volume


@pytest.fixture(scope="module")
def made() -> tuple[list[AnnData], AnnData]:
    sections = isost.datasets.organ(n_sections=3, cells_per_section=60, n_genes=20)
    stack = isost.pp.slice_stack(sections, n_comps=4, check=False)
    model = isost.tl.fit(stack, epochs=1, hidden_dim=8, n_cells=30, expression_shift=0.5, progress=False)
    return isost.io.split_sections(stack).values(), isost.tl.reconstruct(stack, model=model)


@pytest.fixture
def world(made: tuple[list[AnnData], AnnData], tmp_path: Path) -> World:
    sections, volume = made
    return World([section.copy() for section in sections], volume.copy(), tmp_path)


def without(module: str, call: Callable[[], Any]) -> None:
    with mock.patch.dict(sys.modules, {module: None}):
        call()


def renamed(adata: AnnData, names: list[str]) -> AnnData:
    adata.var_names = names
    return adata


def linked(path: Path, link: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["uns/link"] = link
    return path


def cut_off(path: Path) -> Path:
    zarr.open_group(path, mode="w", zarr_format=2).create_array("x", data=np.arange(100.0), compressors=Blosc())
    (path / "x" / "0").write_bytes((path / "x" / "0").read_bytes()[:-1])
    return path


def pickled(path: Path) -> Path:
    zarr.open_group(path, mode="w", zarr_format=2).create_array(
        "x", shape=(1,), dtype=str, filters=[VLenUTF8(), Pickle()], compressors=None
    )
    return path


def slab_folders(world: World) -> None:
    for owner in ("mine", "yours"):
        isost.io.SlabFolder(world.folder / "v.zarr", owner)


def tables_without_places(world: World) -> None:
    for section in world.sections:
        del section.obsm["spatial"]
    isost.io.read_sections(SimpleNamespace(tables=dict(zip("abc", world.sections, strict=True)), coordinate_systems=[]))  # type: ignore[arg-type]


def merfish(world: World) -> None:
    places = np.repeat([-29.0, -4.0], 5)
    obs = pd.DataFrame({"Bregma": places, "Cell_class": pd.Categorical(["glia"] * 10)}, index=list("abcdefghij"))
    published = ad.AnnData(np.ones((10, 2), np.float32), obs=obs, obsm={"spatial": np.ones((10, 2))})
    published.write_h5ad(world.folder / "published.h5ad")
    with mock.patch("isost.datasets._merfish.fetch", return_value=world.folder / "published.h5ad"):
        isost.datasets.merfish_poa(bregma=[0.5])


def of_cells(n: int, *, z: float | None = None, genes: int = 2, width: float = 1.0) -> Section:
    rng = np.random.default_rng(0)
    return Section(rng.random((n, 2)) * [width, 1], rng.random((n, genes)), z=z)


IMAGES: dict[str, Callable[[World], Any]] = {
    "… must end in one of": lambda w: w.image("v.png"),
    "unit must be": lambda w: w.image(unit="cm"),
    "there is no channel": lambda w: w.image(channels=[]),
    "genes of this volume": lambda w: isost.io.to_spatialdata(renamed(w.volume, ["a"] * w.volume.n_vars)),
    "channels … are neither": lambda w: w.image(channels=["nosuch"]),
    "channels … of obs": lambda w: w.image(channels="cell_type"),
    "two of the sections": lambda w: isost.io.to_spatialdata(
        w.volume, dict(zip(["a b", "A_b", "c"], w.sections, strict=True))
    ),
    "section … has no x, y and z": lambda w: isost.io.to_spatialdata(
        w.volume, {"a": ad.AnnData(obsm={"spatial": np.ones((6, 2))})}
    ),
    "there is no coordinate system": lambda w: isost.io.read_sections(
        isost.io.to_spatialdata(w.volume, {"a": w.sections[0]}), coordinate_system="nosuch"
    ),
    "table … annotates": tables_without_places,
    "… is not read: … points": lambda w: isost.io.read(linked(w.folder / "a.h5ad", h5py.ExternalLink("b.h5", "/uns"))),
    "… is not read: … is a link": lambda w: isost.io.read(linked(w.folder / "a.h5ad", h5py.SoftLink("/uns"))),
    "… is damaged: the chunk": lambda w: isost.io.read(cut_off(w.folder / "a.zarr")),
    "… is not read: … is pickled": lambda w: isost.io.read(pickled(w.folder / "a.zarr")),
    "… is no volume in zarr": lambda w: isost.io.read_volume(w.folder),
    "… holds parts of another": slab_folders,
}
PLOTS: dict[str, Callable[[World], Any]] = {
    "color=… is neither": lambda w: w.draw(color="nosuch"),
    "color takes one": lambda w: w.cut(color=["a", "b"], z=30.0),
    "color is an empty": lambda w: w.draw(color=[]),
    "… is missing everywhere": lambda w: isost.pl.volume(w.with_nan("lost"), color="lost"),
    "… is a category; several": lambda w: w.draw(color=["density", "cell_type"]),
    "no layer": lambda w: w.cut(color=w.volume.var_names[0], layer="nosuch", z=30.0),
    "no section has a layer": lambda w: w.slices(color=w.sections[0].var_names[0], layer="nosuch"),
    "…=… is neither a number": lambda w: w.draw(vmax="99"),
    "the colour scale": lambda w: w.draw(vmin=2.0, vmax=1.0),
    "palette has": lambda w: w.slices(color="cell_type", palette=["red"]),
    "…=… is unknown; choose one": lambda w: w.draw(background="blue"),
    "threshold=… needs": lambda w: w.draw(color="cell_type", threshold=1.0),
    "no voxel has": lambda w: w.draw(threshold=1e9),
    "frames=…": lambda w: w.draw(frames="ball"),
    "this AnnData is no volume:": lambda w: isost.pl.volume(w.sections[0]),
    "the volume has no voxels": lambda w: isost.pl.volume(w.volume[:0].copy()),
    "the volume has no obs": lambda w: isost.pl.uncertainty(w.without("uncertainty")),
    "give one of z= (a depth) and": lambda w: w.cut(),
    "z = … lies outside the volume": lambda w: w.draw(frames=[30.0, 1e6]),
    "the plane through": lambda w: w.cut(plane=([0, 0, 1e6], [0, 0, 1])),
    "genes= or z=": lambda w: isost.pl.gene_grid(w.volume, "density", z=[]),
    "a surface needs": lambda w: w.surface(ax=plt.figure().add_subplot()),
    "no surface encloses": lambda w: w.surface(smoothing=1e3),
    "groups=… needs": lambda w: w.surface(color="density", groups="Lining"),
    "groups=… are no": lambda w: w.surface(color="cell_type", groups="nosuch"),
    "there is no section": lambda w: w.slices(sections=[]),
    "sections=…": lambda w: w.slices(sections="nosuch"),
    "section … has no obsm[…]; there are": lambda w: w.slices(spatial_key="xy"),
    "the sections to draw": lambda w: isost.pl.slices([w.sections[0][:0].copy()]),
    "ax has": lambda w: w.slices(ax=plt.figure().add_subplot()),
    "the model has no history": lambda _: isost.pl.training(SimpleNamespace(history=pd.DataFrame())),
    "scores is no table": lambda _: isost.pl.evaluation(pd.DataFrame()),
    "metrics=…": lambda _: isost.pl.evaluation(scores(), metrics="nosuch"),
    "metrics is an": lambda _: isost.pl.evaluation(scores(), metrics=[]),
    "… needs …: pip": lambda w: without("pyvista", lambda: w.draw(backend="pyvista")),
}
OTHERS: dict[str, Callable[[World], Any]] = {
    "positions must be": lambda _: Section(np.ones(3), np.ones((3, 2))),
    "positions …, expression": lambda _: Section(np.ones((3, 2)), np.ones((4, 2))),
    "a section needs": lambda _: of_cells(1),
    "… of a section must": lambda _: Section(np.ones((3, 2)), np.full((3, 2), np.nan)),
    "the generated section": lambda _: score(of_cells(30, genes=3), of_cells(30)),
    "the measured cells": lambda _: score(of_cells(30), of_cells(30, width=0.0)),
    "unknown baseline": lambda _: baseline("guess", of_cells(9, z=0), of_cells(9, z=2), z=1),  # type: ignore[arg-type]
    "a baseline needs": lambda _: baseline("copy", of_cells(9), of_cells(9, z=2), z=1),
    "depth … is not": lambda _: baseline("copy", of_cells(9, z=0), of_cells(9, z=2), z=3),
    "baseline 'self'": lambda _: baseline("self", of_cells(9, z=0), of_cells(9, z=2), z=1),
    "no section has two": lambda _: default_voxel_size([np.ones((1, 2))]),
    "most cells lie": lambda _: default_voxel_size([np.ones((9, 2))]),
    "origin of a grid": lambda _: Grid(np.array([0, 0, np.nan]), 1.0, (1, 1, 1)),
    "shape of a grid": lambda _: Grid(np.zeros(3), 1.0, (1, 0, 1)),
    "a grid of shape": lambda w: isost.tl.reconstruct(w.sections, voxel_size=1e-6),
    "a grid covers": lambda _: Grid.covering(np.ones(3), np.zeros(3), voxel_size=1.0),
    "there are no sections at": merfish,
    "points have shape": lambda _: isost.datasets.Organ().inside(np.ones((3, 2))),
    "… = … is too small": lambda _: isost.datasets.organ(n_genes=3),
    "z = … lies outside the organ": lambda _: isost.datasets.Organ().cells_at(1e6, 9),
}
PROVOKED = IMAGES | PLOTS | OTHERS


def scores() -> pd.DataFrame:
    index = pd.MultiIndex.from_product([["mean", "b"], ["all"], ["r_cell"]], names=["section", "gene", "metric"])
    return pd.DataFrame({"isost": 0.5, "copy": 0.4, "verdict": "better"}, index=index)


def row_of(beginning: str) -> str:
    (row,) = [row for row in ROWS if row.startswith(beginning)]
    return row


def test_every_row_is_provoked() -> None:
    assert sorted(map(row_of, PROVOKED)) == sorted(ROWS)


@pytest.mark.parametrize("beginning", PROVOKED)
def test_every_error_is_raised_before_anything_is_drawn_or_written(beginning: str, world: World) -> None:
    pattern = ".*".join(map(re.escape, row_of(beginning).split("…")))
    figures = plt.get_fignums()
    with pytest.raises((ImportError, KeyError, TypeError, ValueError)) as caught:
        PROVOKED[beginning](world)
    assert re.fullmatch(pattern, str(caught.value.args[0]), flags=re.DOTALL), caught.value
    assert len(plt.get_fignums()) <= len(figures) + ("ax" in beginning or "3D axes" in row_of(beginning))
    plt.close("all")


@pytest.mark.parametrize(
    ("said", "call"),
    [
        ("ncols must be at least 1", lambda w: w.slices(ncols=0)),
        ("ncols must be at least 1", lambda _: isost.pl.evaluation(scores(), ncols=0)),
        ("n_frames must be at least 2", lambda w: isost.pl.animate(w.volume, n_frames=1)),
        ("fps must be a positive number", lambda w: isost.pl.animate(w.volume, fps=0)),
        ("size must be a positive number", lambda w: w.slices(size=-1.0)),
        ("pixel_size must be a positive number", lambda w: w.cut(z=30.0, pixel_size=0.0)),
        ("smoothing must be at least 0", lambda w: w.surface(smoothing=-1.0)),
        ("max_voxels must be at least 1", lambda w: w.draw(max_voxels=-5)),
        ("a plane is a point and a normal", lambda w: w.cut(plane=([0, 0, 30], [0, 0]))),
        ("the colour scale would run", lambda w: w.draw(vmin="p90", vmax="p10")),
        ("vmin=nan is neither", lambda w: w.draw(vmin=np.nan)),
        ("z = 1e[+]06 lies outside", lambda w: w.draw(frames=1e6)),
        ("seed must be at least 0", lambda w: isost.tl.reconstruct(w.sections, seed=-1)),
        ("seed must be at least 0", lambda w: isost.tl.evaluate(w.sections, seed=-1)),
        ("seed must be at least 0", lambda w: isost.pp.slice_stack(w.sections, seed=-1)),
        ("seed must be at least 0", lambda w: isost.pp.check(w.sections, seed=-1)),
        ("seed must be at least 0", lambda _: isost.datasets.organ(seed=-1)),
    ],
)
def test_impossible_numbers_are_refused(said: str, call: Callable[[World], Any], world: World) -> None:
    with pytest.raises(ValueError, match=said):
        call(world)
    assert not plt.get_fignums()
