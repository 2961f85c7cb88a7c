"""The table of errors: the same messages as in the code, each of them provoked."""

from __future__ import annotations

import ast
import copy
import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import isost
from isost.model import IsoST
from isost.tl import _fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

TABLE = Path(__file__).parents[1] / "docs" / "errors.md"
OF_OTHER_TESTS = "## Volumes as images"  # from here on, test_errors_of_plots.py provokes them
QUICK = {"epochs": 1, "hidden_dim": 8, "n_cells": 30, "expression_shift": 0.5, "progress": False}


def messages(path: Path) -> Iterator[str]:
    """Messages that a file raises: what is put together at run time is ``…``."""
    for node in ast.walk(ast.parse(path.read_text())):
        for block in (getattr(node, field, None) for field in ("body", "orelse", "finalbody")):
            for before, after in itertools.pairwise(block) if isinstance(block, list) else ():
                if isinstance(before, ast.Assign) and isinstance(after, ast.Raise):
                    parts = before.value.values if isinstance(before.value, ast.JoinedStr) else [before.value]
                    yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)


def rows(table: str) -> list[str]:
    cells = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line[:2] == "| "]
    return [cell for cell in cells if cell != "message"]


def test_the_table_has_every_message_once() -> None:
    root = Path(isost.__file__).parent
    files = [root / name for name in ("_checks.py", "_settings.py", "model.py", "volume/_grid.py", "volume/_plane.py")]
    files += [path for part in ("datasets", "io", "metrics", "pl", "pp", "tl") for path in root.glob(f"{part}/**/*.py")]
    raised = {message for path in files for message in messages(path)}
    assert sorted(rows(TABLE.read_text())) == sorted(raised)


class World(NamedTuple):
    """What errors are provoked with; every test has its own."""

    sections: list[AnnData]
    stack: AnnData
    model: IsoST
    folder: Path

    def with_section(self, change: Callable[[AnnData], Any]) -> list[AnnData]:
        """Sections of which the second has been changed, or replaced."""
        made = change(self.sections[1])
        return self.sections if made is None else [self.sections[0], made, *self.sections[2:]]

    def stack_of(self, sections: Any, **kws: Any) -> AnnData:
        return isost.pp.slice_stack(sections, check=False, **kws)

    def fit(self, **kws: Any) -> IsoST:
        return isost.tl.fit(self.stack, **(QUICK | kws))

    def section(self, **kws: Any) -> AnnData:
        return isost.tl.section(self.stack, model=self.model, **({"z": 30.0} | kws))

    def evaluate(self, sections: Any = None, **kws: Any) -> Any:
        return isost.tl.evaluate(self.sections if sections is None else sections, progress=False, **kws)

    def load(self, file: str, content: bytes | None) -> IsoST:
        """Load a saved model one file of which has been changed, or removed."""
        self.model.save(self.folder / "model")
        path = self.folder / "model" / file
        path.unlink() if content is None else path.write_bytes(content)
        return IsoST.load(self.folder / "model")

    def load_with(self, **numbers: Any) -> IsoST:
        """Load a saved model with other numbers."""
        self.model.save(self.folder / "model")
        path = self.folder / "model" / "model.json"
        return self.load("model.json", json.dumps(json.loads(path.read_text()) | numbers).encode())


@pytest.fixture(scope="module")
def made() -> tuple[list[AnnData], AnnData, IsoST]:
    sections = isost.datasets.organ(n_sections=4, cells_per_section=60, n_genes=20)
    stack = isost.pp.slice_stack(sections, n_comps=4, check=False)
    return sections, stack, isost.tl.fit(stack, **QUICK)


@pytest.fixture
def world(made: tuple[list[AnnData], AnnData, IsoST], tmp_path: Path) -> World:
    sections, stack, model = made
    return World([section.copy() for section in sections], stack.copy(), copy.copy(model), tmp_path)


def put(key: str, value: Any) -> Callable[[AnnData], None]:
    def change(section: AnnData) -> None:
        section.obs[key] = value

    return change


def places(value: Any) -> Callable[[AnnData], None]:
    return lambda section: section.obsm.__setitem__("spatial", np.full((section.n_obs, 2), value))


def without_obs(key: str) -> Callable[[AnnData], None]:
    def drop(section: AnnData) -> None:
        del section.obs[key]

    return drop


def written(world: World, *names: str) -> list[Path]:
    paths = [world.folder / name for name in names]
    for path in paths:
        isost.io.write(world.sections[0], path)
    return paths


def foreign(model: IsoST, **kws: Any) -> IsoST:
    for name, value in kws.items():
        setattr(model, name, value)
    return model


SECTIONS: dict[str, Callable[[World], Any]] = {
    "sections must be a list or dict": lambda w: w.stack_of("sections.h5ad"),
    "section … is not an AnnData": lambda w: w.stack_of(w.with_section(lambda section: section.to_df())),
    "at least two sections": lambda w: w.stack_of(w.sections[:1]),
    "two sections have the same name": lambda w: w.stack_of({1: w.sections[0], "1": w.sections[1]}),
    "one AnnData was given": lambda w: w.stack_of(w.sections[0], section_key="slice"),
    "obs[…] is missing for": lambda w: isost.io.split_sections(
        w.with_section(put("section", [None, *"a" * (w.sections[1].n_obs - 1)]))[1]
    ),
    "obs[…] has names that are the same": lambda w: isost.io.split_sections(
        w.with_section(put("section", [1, *"1" * (w.sections[1].n_obs - 1)]))[1]
    ),
    "section … has … points, but": lambda w: w.stack_of(w.with_section(lambda section: section[:3].copy())),
    "section … has … gene names": lambda w: w.stack_of(
        w.with_section(lambda section: setattr(section, "var_names", ["a", "a", *map(str, range(18))]))
    ),
    "the sections share no genes": lambda w: w.stack_of(
        w.with_section(lambda section: setattr(section, "var_names", list(map(str, range(20)))))
    ),
    "genes= is an empty list": lambda w: w.stack_of(w.sections, genes=[]),
    "genes= names … twice": lambda w: w.stack_of(w.sections, genes=["a", "a"]),
    "section … lacks … of genes=": lambda w: w.stack_of(w.sections, genes=["a"]),
    "section … has no layer": lambda w: w.stack_of(w.sections, layer="logged"),
    "section … has no X": lambda w: w.stack_of(w.with_section(lambda section: setattr(section, "X", None))),
    "expression of section … has NaN": lambda w: w.stack_of(
        w.with_section(lambda section: setattr(section, "X", section.X.toarray() * np.nan))
    ),
    "expression is the same": lambda w: w.stack_of(
        [changed(section, lambda section: section.X.data.fill(0)) for section in w.sections]
    ),
    "lazy expression may have": lambda w: w.stack_of(many_genes(w.sections), lazy=True),
    "section … has no obsm": lambda w: w.stack_of(w.sections, spatial_key="xy"),
    "obsm[…] of section … must be numbers": lambda w: w.stack_of(w.with_section(places("left"))),
    "obsm[…] of section … has shape": lambda w: w.stack_of(
        w.with_section(lambda section: section.obsm.__setitem__("spatial", np.zeros((section.n_obs, 4))))
    ),
    "obsm[…] of section … is NaN": lambda w: w.stack_of(w.with_section(places(np.nan))),
    "all points of section": lambda w: w.stack_of(w.with_section(places(1.0))),
    "section … has no depth": lambda w: w.stack_of(w.with_section(without_obs("z"))),
    "… of section … must be finite": lambda w: w.stack_of(w.with_section(put("z", "deep"))),
    "sections … and … lie at the same z": lambda w: w.stack_of(w.sections, z=[0, 1, 1, 2]),
    "the depths of sections": lambda w: w.stack_of(
        w.with_section(lambda section: section.obs.__setitem__("z", np.linspace(-90, 200, section.n_obs)))
    ),
    "z= must name every section": lambda w: w.stack_of(w.sections, z={"a": 0}),
    "z= must hold one depth": lambda w: w.stack_of(w.sections, z=[0, 1]),
}
STACKS: dict[str, Callable[[World], Any]] = {
    "a stack is one AnnData": lambda w: isost.tl.fit(w.sections),
    "this AnnData is not a stack": lambda w: isost.tl.fit(w.sections[0]),
    "the stack was prepared with": lambda w: isost.tl.fit(w.stack[:, :5].copy()),
    "the stack has lost": lambda w: isost.tl.fit(changed(w.stack, without_obs("section"))),
    "obs[…] no longer runs": lambda w: isost.tl.fit(w.stack[::-1].copy()),
    "section … has no points left": lambda w: isost.tl.fit(w.stack[w.stack.obs["section"] != "section1"].copy()),
    "this stack is without expression": lambda w: isost.tl.fit(
        changed(w.stack, lambda stack: setattr(stack, "X", None))
    ),
    "the stack is backed": lambda w: isost.tl.fit(backed(w)),
    "stack_kws=… has no effect": lambda w: isost.tl.reconstruct(w.stack, stack_kws={"n_comps": 3}),
    "obs has the labels": lambda w: isost.tl.reconstruct(
        changed(w.stack, put("cell_type_probability", w.stack.obs["cell_type"])), model=w.model
    ),
}
FIT: dict[str, Callable[[World], Any]] = {
    "settings.precision": lambda _: setattr(isost.settings, "precision", "half"),
    "objective=… is unknown": lambda w: w.fit(objective="guess"),
    "sigma must be four": lambda w: w.fit(sigma=(0, 0, 0)),
    "… must be at least": lambda w: w.fit(hidden_dim=0),
    "… must be a positive number": lambda w: w.fit(delta_z=0.0),
    "optimizer=…": lambda w: w.fit(optimizer="Guess"),
    "fit does not know": lambda w: w.fit(alpha=1.0),
    "… must be a whole number": lambda w: w.fit(devices=0),
    "num_nodes=… needs": lambda w: w.fit(num_nodes=2),
    "device=…, but there is": lambda w: w.fit(device="cuda"),
    "device=…, but there are": lambda w: with_gpus(1, lambda: w.fit(device="cuda:1")),
    "expression_shift must lie": lambda w: w.fit(expression_shift=2.0),
    "epochs of the bridge": lambda w: w.fit(epochs=(1, 1)),
    "the bridge learns both": lambda w: w.fit(dual=False),
    "the bridge keeps": lambda w: w.fit(sigma=(0, 0, 0.1, 0)),
    "section … has … cells, too few for n_neighbors": lambda w: w.fit(n_neighbors=1000, batch_size=2000),
    "section … has … cells, too few for unet_depth": lambda w: w.fit(unet_depth=9),
}
MADE: dict[str, Callable[[World], Any]] = {
    "the model knows": lambda w: isost.tl.section(w.stack, model=foreign(w.model, genes=["a"]), z=30.0),
    "the model was fitted": lambda w: isost.tl.section(w.stack_of(w.sections[:3], n_comps=4), model=w.model, z=30.0),
    "this model knows its drift": lambda w: isost.tl.section(w.stack, model=foreign(w.model, genes=[]), z=30.0),
    "fit_kws=… has no effect": lambda w: isost.tl.reconstruct(w.stack, model=w.model, fit_kws={"epochs": 1}),
    "store=… must end": lambda w: isost.tl.reconstruct(w.stack, store=w.folder / "volume.h5ad"),
    "voxel_size=… gives": lambda w: without_memory(lambda: isost.tl.reconstruct(w.stack)),
    "genes must be a list": lambda w: isost.tl.reconstruct(w.stack, genes="Gad1"),
    "genes … are not in the stack": lambda w: isost.tl.reconstruct(w.stack, genes=["Gad1"]),
    "give one of z=": lambda w: w.section(z=None),
    "thickness= belongs": lambda w: w.section(thickness=1.0),
    "…= is an empty list": lambda w: w.section(z=[]),
    "z = … lies outside": lambda w: w.section(z=1e6),
    "a plane is": lambda w: w.section(z=None, plane=([0, 0, 30], [0, 0, 0])),
    "the plane through": lambda w: w.section(z=None, plane=([0, 0, 1e6], [0, 0, 1])),
    "most cells lie exactly": lambda w: isost.tl.section(
        (stack := doubled(w)),
        model=foreign(w.model, normalization=isost.pp.Stack.from_anndata(stack).normalization),
        plane=([0, 0, 30], [0, 0, 1]),
    ),
    "… must be a list of names": lambda w: w.section(obs="score"),
    "…= names …, which": lambda w: w.section(obs=["score"]),
    "…[…] is not numeric": lambda w: w.section(obs=["cell_type"]),
    "…= names …, but": lambda w: w.section(obsm=["spatial"]),
}
EVALUATION: dict[str, Callable[[World], Any]] = {
    "baselines must": lambda w: w.evaluate(baselines=["guess"]),
    "fit_kws['checkpoint_dir']": lambda w: w.evaluate(fit_kws={"checkpoint_dir": "here"}),
    "at least three sections": lambda w: w.evaluate(w.sections[:2]),
    "hold_out=…": lambda w: w.evaluate(hold_out=[1, 1]),
    "hold_out names": lambda w: w.evaluate(hold_out="nosuch"),
    "hold_out has": lambda w: w.evaluate(hold_out=9),
    "section … is the …": lambda w: w.evaluate(hold_out=0),
    "a … is called": lambda w: w.evaluate(dict(zip(["a", "mean", "c"], w.sections, strict=False))),
    "section … cannot be scored": lambda w: w.evaluate(
        w.with_section(lambda section: section.obsm["spatial"][:, 1].fill(0.0)), stack_kws={"check": False}
    ),
}
FILES: dict[str, Callable[[World], Any]] = {
    "there is no …": lambda w: isost.io.read(w.folder / "missing.h5ad"),
    "… must end in": lambda w: isost.io.write(w.sections[0], w.folder / "section.csv"),
    "… holds no files": lambda w: isost.io.read_sections(w.folder),
    "two files are called": lambda w: isost.io.read_sections(written(w, "a/s.h5ad", "b/s.h5ad")),
    "… holds no model": lambda w: w.load("model.json", None),
    "… is damaged": lambda w: w.load("model.json", b"{"),
    "… lacks …": lambda w: w.load("model.json", b"{}"),
    "… does not fit": lambda w: w.load_with(settings=dataclasses.asdict(w.model.settings) | {"hidden_dim": 12}),
    "… has impossible settings": lambda w: w.load_with(
        settings=dataclasses.asdict(w.model.settings) | {"hidden_dim": -1}
    ),
    "the parts of the model": lambda w: w.load_with(genes=["a"]),
    "… was written by": lambda w: w.load_with(settings={"n_comps": 4, "colour": "red"}),
    "this model has no": lambda w: w.model.drift(np.zeros((9, 7)), direction="up"),
    "points must be": lambda w: w.model.drift(np.full((9, 7), np.nan)),
}
PROVOKED = SECTIONS | STACKS | FIT | MADE | EVALUATION | FILES


def changed(adata: AnnData, change: Callable[[AnnData], Any]) -> AnnData:
    change(adata)
    return adata


def backed(world: World) -> AnnData:
    world.stack.write_h5ad(world.folder / "stack.h5ad")
    return anndata.read_h5ad(world.folder / "stack.h5ad", backed="r")


def without_memory(call: Callable[[], Any]) -> None:
    with mock.patch("isost.tl._size.available_memory", return_value=1e3):
        call()


def many_genes(sections: list[AnnData]) -> list[AnnData]:
    n = 12_001
    return [
        anndata.AnnData(sp.csr_matrix((section.n_obs, n)), obs=section.obs, obsm={"spatial": section.obsm["spatial"]})
        for section in sections
    ]


def with_gpus(n: int, work: Callable[[], Any]) -> None:
    is_available = mock.patch("torch.cuda.is_available", return_value=True)
    with is_available, mock.patch("torch.cuda.device_count", return_value=n):
        work()


def doubled(world: World) -> AnnData:
    """Stack in which every cell lies on another."""
    for section in world.sections:
        section.obsm["spatial"][1::2] = section.obsm["spatial"][: section.n_obs - 1 : 2]
    return world.stack_of(world.sections, n_comps=4)


@pytest.mark.parametrize("message", rows(TABLE.read_text().partition(OF_OTHER_TESTS)[0]))
def test_every_error_is_raised_before_the_work_starts(
    message: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fit, "optimize", lambda *_, **__: pytest.fail("training began"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    provoke = [provoked for beginning, provoked in PROVOKED.items() if message.startswith(beginning)]
    pattern = ".*".join(map(re.escape, message.split("…")))
    with pytest.raises((KeyError, TypeError, ValueError, FileNotFoundError)) as caught:
        provoke[-1](world)
    assert re.fullmatch(pattern, str(caught.value.args[0]), flags=re.DOTALL), caught.value
