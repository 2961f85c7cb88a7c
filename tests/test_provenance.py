"""What an output says of its making is enough to make it again."""

from __future__ import annotations

import getpass
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import isost
from isost._provenance import provenance

FIT: dict[str, Any] = {"epochs": 2, "hidden_dim": 8, "n_cells": 20, "sigma": (0.01, 0.01, 0.0, 0.1), "seed": 3}
DEPTHS = {"top": 90.0, "low/1": 0.0, "mid": 40.0}


@pytest.fixture(scope="module")
def sections() -> dict[str, AnnData]:
    made = isost.datasets.organ(n_sections=3, cells_per_section=90, n_genes=20)
    return dict(zip(("top", "low/1", "mid"), (made[2], made[0], made[1]), strict=True))


@pytest.fixture(scope="module")
def outputs(sections: dict[str, AnnData], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a volume and a generated section, as another reads them."""
    folder = tmp_path_factory.mktemp("outputs")
    stack = isost.pp.slice_stack(sections, z=DEPTHS, n_comps=3, genes=list(sections["mid"].var_names[:15]))
    model = isost.tl.fit(stack, objective="trajectory", stride=2, progress=False, checkpoint_dir=folder / "fit", **FIT)
    model.save(folder / "model")
    genes = list(stack.var_names[:2])
    isost.tl.reconstruct(stack, model=model, voxel_size=30, genes=genes, seed=5, store=folder / "volume.zarr")
    plane = ([0.0, 0.0, 45.0], [0.0, 0.5, 1.0])
    isost.io.write(isost.tl.section(stack, model=model, plane=plane, seed=7), folder / "section.h5ad")
    return folder


def recorded(outputs: Path) -> tuple[AnnData, AnnData]:
    return isost.io.read_volume(outputs / "volume.zarr"), isost.io.read(outputs / "section.h5ad")


def test_a_run_is_repeated_from_what_is_recorded(sections: dict[str, AnnData], outputs: Path) -> None:
    volume, section = recorded(outputs)
    made = volume.uns["isost"]["provenance"]
    assert [made["function"], made["model"]["function"], made["stack"]["function"]] == [
        f"isost.{name}" for name in ("tl.reconstruct", "tl.fit", "pp.slice_stack")
    ]
    for of_model in (made["model"], isost.IsoST.load(outputs / "model").provenance):
        stack = isost.pp.slice_stack(sections, **of_model["stack"]["params"])
        model = isost.tl.fit(stack, progress=False, **of_model["params"])
        again = isost.tl.reconstruct(stack, model=model, **made["params"])
        pd.testing.assert_frame_equal(again.obs, volume.obs, check_exact=True)
        np.testing.assert_array_equal(again.obsm["X_pca"], volume.obsm["X_pca"])
        np.testing.assert_array_equal(again.X, volume.X)
        cut = isost.tl.section(stack, model=model, **section.uns["isost"]["provenance"]["params"])
        assert (cut.X != section.X).nnz == 0
        np.testing.assert_array_equal(cut.obsm["spatial"], section.obsm["spatial"])
    again_model = outputs / "again"
    model.save(again_model)  # with numbers that were read from AnnData


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index, pd.Series, pd.Categorical])
def test_any_sequence_is_recorded_as_an_array(suffix: str, kind: Any, tmp_path: Path) -> None:
    plane = ([0.0, 1.0], (1.0, 2.0))
    given = {"genes": kind(["a", "b"]), "plane": plane, "none": None, "kws": {"z": (1, 2), "none": None}}
    record = provenance("f", given)
    isost.io.write(AnnData(np.ones((2, 1)), uns={"isost": record}), tmp_path / f"a{suffix}")
    for found in (record["params"], isost.io.read(tmp_path / f"a{suffix}").uns["isost"]["params"]):
        assert found.keys() == {"genes", "plane", "kws"}
        assert found["kws"].keys() == {"z"}
        for values, expected in ((found["genes"], ["a", "b"]), (found["plane"], [[0, 1], [1, 2]])):
            assert isinstance(values, np.ndarray)
            assert values.tolist() == expected


@pytest.mark.parametrize("obs", [[], ["score"], ["score", "rank"]])
def test_carried_columns_are_repeated_from_what_is_recorded(
    sections: dict[str, AnnData], outputs: Path, obs: list[str], tmp_path: Path
) -> None:
    genes = sections["mid"].var_names[:15]
    stack = isost.pp.slice_stack(sections, z=DEPTHS, genes=genes, n_comps=3)
    stack.obs["score"], stack.obs["rank"] = 0.5, np.arange(stack.n_obs)
    model = isost.IsoST.load(outputs / "model")
    cut = isost.tl.section(stack, model=model, z=20.0, obs=obs)
    isost.io.write(cut, tmp_path / "cut.h5ad")
    for made in (cut, isost.io.read(tmp_path / "cut.h5ad")):
        again = isost.tl.section(stack, model=model, **made.uns["isost"]["provenance"]["params"])
        pd.testing.assert_frame_equal(again.obs, cut.obs, check_exact=True)


def test_versions_and_settings_are_there_and_no_names_of_users_or_paths(outputs: Path) -> None:
    volume, section = recorded(outputs)
    for record in (volume.uns["isost"]["provenance"], section.uns["isost"]["provenance"]):
        for part in (record, record["stack"], record["model"]):
            assert {"python", "isost", "torch", "numpy", "anndata"} <= part["versions"].keys()
            assert {"seed"} <= part["params"].keys()
            assert (part["device"], part["n_threads"]) == ("cpu", isost.settings.n_threads)
            assert part["precision"] == "float32"
        said = json.dumps(record, default=lambda value: value.tolist())
        assert not any(word in said for word in (str(outputs), outputs.name, str(Path.home()), "checkpoint_dir"))
        assert getpass.getuser() not in said.replace("/root", "")


def test_a_long_fit_is_logged_to_a_file(sections: dict[str, AnnData], tmp_path: Path) -> None:
    logger, handler = logging.getLogger("isost"), logging.FileHandler(tmp_path / "run.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        isost.tl.fit(
            isost.pp.slice_stack(sections, n_comps=3), progress=False, checkpoint_every=1, **FIT | {"sigma": (0,) * 4}
        )
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [f"epoch {i} of 2: loss" in line for i in (1, 2) for line in lines].count(True) == 2
    assert "fit took" in lines[-1]
