"""Random sections, many of them unfit, through the public functions: a right result, or an error of isost's own.

How many are tried follows the hypothesis profile, see conftest.
"""

from __future__ import annotations

import copy
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anndata as ad
import dask.array
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import isost
from isost._normalization import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what is odd may be warned of; numpy's own may not

QUICK = {"epochs": 1, "hidden_dim": 4, "n_neighbors": 3, "unet_depth": 1, "n_mean_comps": 3, "delta_z": 0.05}
FITS = [{"n_cells": 5}, {}, {"n_cells": 5, "sigma": (0.02, 0.02, 0.0, 0.1)}, {"n_cells": 5, "objective": "trajectory"}]
ROOT = Path(isost.__file__).parent
LABELS = ["T cell", "Zélle β/γ", "細胞", "a_b"]


def cases(share: float) -> Callable[[Any], Any]:
    """Try `share` times as many cases as the profile says."""
    n = max(1, round(share * settings().max_examples))
    return settings(max_examples=n, suppress_health_check=list(HealthCheck))


class Case(NamedTuple):
    """Sections and how to hand them over."""

    sections: Any
    stack_kws: dict[str, Any]


@st.composite
def anything(draw: Any, *, sound: bool = False) -> Case:
    """Two to four sections; unless `sound`, about half of them are such that no volume can come of them."""

    def odd(*choices: Any) -> Any:
        """Choose one, mostly the first."""
        return draw(st.sampled_from([choices[0]] * 2 * len(choices) + list(choices)))

    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_sections = draw(st.integers(2, 4))
    n_genes = odd(8, 1, 2, 20)
    sizes = [odd(12, 7, 30, *(() if sound else (0, 1, 5, 6))) for _ in range(n_sections)]
    unit, offset = odd(1.0, 1e-6, 1e6), odd(0.0, 1e7, -1e7)
    step = odd(1.0, 0.01, 50.0) * unit
    z = odd(0.0, -1e3, 1e7 if unit >= 1 else 1.0) * unit + step * np.cumsum(random.uniform(0.5, 2, n_sections))
    z = z[odd(slice(None), slice(None, None, -1))]
    if not sound:
        z = odd(z, np.zeros_like(z), np.full_like(z, np.nan))
    place_kind, value_kind, container = odd(*_PLACES), odd(*_VALUES), odd(*_CONTAINERS)
    if sound:
        place_kind = place_kind if place_kind != "one place" else "cloud"
        value_kind = value_kind if value_kind != "constant" else "sparse"
    depth_kind = odd("obs", "third column", "z")
    sections = []
    for k, n in enumerate(sizes):
        places = _places(place_kind, random, n) * 10 * unit + offset * unit
        if depth_kind == "third column":
            places = np.column_stack([places, np.full(n, z[k])])
        section = ad.AnnData(
            container(_values(value_kind, random, n, n_genes)),
            obs=pd.DataFrame(index=[f"cell {i}" for i in range(n)]),  # the same names in every section
            var=pd.DataFrame(index=[f"Gene {g} β" for g in range(n_genes)]),
        )
        section.obsm["spatial"] = places
        section.obs["type of cell"] = pd.Categorical(
            np.array([*LABELS, None], dtype=object)[random.integers(0, 5, n)], categories=LABELS
        )
        section.obs["section"] = f"schnitt {k} é"
        if depth_kind == "obs":
            section.obs["z"] = z[k]
        sections.append(section)
    form = odd("list", "dict", "one")
    if form == "one" and container is not dask.array.from_array:
        sections = [ad.concat(sections)]
    _spoil(odd, sections, sound=sound)
    if odd(False, True):
        sections = [_backed(section) for section in sections]
    stack_kws: dict[str, Any] = {"n_comps": odd(4, 1, 50)} | ({"z": list(z)} if depth_kind == "z" else {})
    if form == "dict":
        return Case({f"β {k}": section for k, section in enumerate(sections)}, stack_kws)
    return Case(sections[0] if len(sections) == 1 else sections, stack_kws)


def _backed(section: ad.AnnData) -> ad.AnnData:
    """Leave expression in a file, which goes when it is no longer open."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "section.h5ad"
        section.copy().write_h5ad(path)
        return ad.read_h5ad(path, backed="r")


_PLACES = ("cloud", "line", "duplicates", "lattice", "one place")
_VALUES = ("sparse", "dense", "silent cells", "silent genes", "negative", "whole", "constant")
_CONTAINERS = (
    np.asarray,
    sp.csr_matrix,
    sp.csc_matrix,
    sp.csr_array,
    dask.array.from_array,
    lambda X: X.astype(np.float32),
    lambda X: X.astype(np.int64),
    np.asfortranarray,
)


def _places(kind: str, random: np.random.Generator, n: int) -> NDArray[np.float64]:
    cloud = random.normal(size=(n, 2)) * [1.0, 0.3]
    return {
        "cloud": cloud,
        "line": cloud * [1.0, 0.0],
        "duplicates": cloud[np.arange(n) // 2],
        "lattice": np.column_stack([np.arange(n) // 4, np.arange(n) % 4]).astype(np.float64),
        "one place": np.zeros((n, 2)),
    }[kind]


def _values(kind: str, random: np.random.Generator, n: int, n_genes: int) -> NDArray[np.float64]:
    dense = np.log1p(random.gamma(1.0, 2.0, (n, n_genes)))
    return {
        "sparse": dense * (random.random(dense.shape) < 0.5),
        "dense": dense,
        "silent cells": dense * (np.arange(n) % 3 > 0)[:, None],
        "silent genes": dense * (np.arange(n_genes) % 2 == 0),
        "negative": dense - 1,
        "whole": np.rint(np.expm1(dense)),
        "constant": np.full((n, n_genes), 0.1),
    }[kind]


def _spoil(odd: Any, sections: list[ad.AnnData], *, sound: bool) -> None:
    """Change one section in some way that is allowed or, unless `sound`, is not."""
    k = odd(*range(len(sections)))
    section = sections[k]
    what = odd("nothing", "view", "read-only", "twice", "frame", *(() if sound else ("nan", "lost", "genes", "inf")))
    if what == "view":
        sections[k] = section[:, :]
    elif what == "read-only":
        section.obsm["spatial"].setflags(write=False)
        if isinstance(section.X, np.ndarray):
            section.X.setflags(write=False)
    elif what == "twice" and section.n_obs:
        section.obs_names = [section.obs_names[0]] * section.n_obs
    elif what == "frame":
        places = section.obsm["spatial"]
        section.obsm["spatial"] = pd.DataFrame(places, index=section.obs_names, columns=list("xyz")[: places.shape[1]])
    elif what == "nan" and section.n_obs:
        section.obsm["spatial"][0, 0] = np.nan
    elif what == "inf" and section.n_obs and isinstance(section.X, np.ndarray) and section.X.dtype.kind == "f":
        section.X[0, 0] = np.inf
    elif what == "lost":
        del section.obsm["spatial"]
    elif what == "genes" and section.n_vars > 1:
        section.var_names = [section.var_names[0]] * section.n_vars


@contextmanager
def refusals_of_our_own() -> Iterator[None]:
    """Let errors through that isost itself raises; those that arise in it or below are faults of ours."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raised = traceback.extract_tb(error.__traceback__)[-1]
        if not (raised.filename.startswith(str(ROOT)) and str(raised.line).startswith("raise ")):
            raise


@contextmanager
def figures_closed() -> Iterator[None]:
    try:
        yield
    finally:
        plt.close("all")


def everything(sections: Any) -> Any:
    listed = (
        sections.values()
        if isinstance(sections, dict)
        else [sections]
        if isinstance(sections, ad.AnnData)
        else sections
    )
    return [
        (
            _dense(section.X).copy(),
            section.obs.copy(),
            section.var.copy(),
            {key: np.asarray(value).copy() for key, value in section.obsm.items()},
            copy.deepcopy(dict(section.uns)),
        )
        for section in listed
    ]


def _dense(X: Any) -> NDArray[Any]:
    if hasattr(X, "to_memory"):  # sparse, in a file
        X = X.to_memory()
    return X.compute() if hasattr(X, "compute") else X.toarray() if sp.issparse(X) else np.asarray(X)


def assert_unchanged(before: Any, sections: Any) -> None:
    for old, new in zip(before, everything(sections), strict=True):
        np.testing.assert_array_equal(old[0], new[0])
        pd.testing.assert_frame_equal(old[1], new[1])
        pd.testing.assert_frame_equal(old[2], new[2])
        assert old[3].keys() == new[3].keys()
        for key, array in old[3].items():
            np.testing.assert_array_equal(array, new[3][key])
        np.testing.assert_equal(new[4], old[4])


@cases(10)
@given(anything())
def test_slice_stack(case: Case) -> None:
    before = everything(case.sections)
    with refusals_of_our_own():
        assert_is_stack(isost.pp.slice_stack(case.sections, **case.stack_kws), before)
    assert_unchanged(before, case.sections)


@cases(5)
@given(anything(sound=True))
def test_slice_stack_of_sound_sections(case: Case) -> None:
    assert_is_stack(isost.pp.slice_stack(case.sections, **case.stack_kws), everything(case.sections))


def assert_is_stack(stack: ad.AnnData, before: Any) -> None:
    view = isost.pp.Stack.from_anndata(stack)
    assert stack.n_obs == sum(len(old[0]) for old in before)
    assert (np.diff(view.z) > 0).all()
    # every cell is there with its place and its expression, section by section
    places = np.concatenate([old[3]["spatial"][:, :2] for old in before])
    values = np.concatenate([old[0] for old in before])
    want, got = (
        np.column_stack(parts) for parts in ((places, values), (stack.obsm["spatial"][:, :2], _dense(stack.X)))
    )
    np.testing.assert_array_equal(want[np.lexsort(want.T)], got[np.lexsort(got.T)])
    state = stack.obsm["X_isost"]
    assert np.isfinite(state).all()
    assert -1e-6 < state[:, :2].min() <= state[:, :2].max() < 1 + 1e-6
    back = view.normalization.decode(state[:, :3], dims=SPACE)
    np.testing.assert_allclose(
        back, stack.obsm["spatial"], rtol=0, atol=1e-6 * np.ptp(stack.obsm["spatial"], axis=0).max()
    )
    np.testing.assert_allclose(view.loadings.T @ view.loadings, np.eye(view.loadings.shape[1]), atol=1e-4)


@cases(4)
@given(anything())
def test_check(case: Case) -> None:
    before = everything(case.sections)
    report = isost.pp.check(case.sections, **{key: value for key, value in case.stack_kws.items() if key == "z"})
    assert_unchanged(before, case.sections)
    refused = False
    try:
        isost.pp.slice_stack(case.sections, **case.stack_kws)
    except (KeyError, TypeError, ValueError):
        refused = True
    assert refused == (report["severity"] == "error").any()
    assert (report["message"].str.len() > 20).all()


@cases(1)
@given(anything(sound=True), st.sampled_from(FITS))
def test_fit_reconstruct_section(case: Case, fit_kws: dict[str, Any]) -> None:
    stack = isost.pp.slice_stack(case.sections, **case.stack_kws)
    before = everything(stack)
    with refusals_of_our_own():
        model = isost.tl.fit(stack, progress=False, **QUICK, **fit_kws)
        extent = np.ptp(stack.obsm["spatial"], axis=0)
        volume = isost.tl.reconstruct(stack, model=model, voxel_size=float(extent.max() / 5))
        assert_is_volume(volume, stack)
        z = stack.uns["isost"]["sections"]["z"]
        assert_is_section(isost.tl.section(stack, model=model, z=float(0.3 * z[0] + 0.7 * z[1])), stack)
    assert_unchanged(before, stack)


def assert_is_volume(volume: ad.AnnData, stack: ad.AnnData) -> None:
    grid, places = volume.uns["isost"]["grid"], stack.obsm["spatial"]
    assert volume.n_obs > 0
    assert (volume.obsm["voxel"] >= 0).all()
    assert (volume.obsm["voxel"] < grid["shape"]).all()
    centers = grid["origin"] + (volume.obsm["voxel"] + 0.5) * grid["voxel_size"]
    np.testing.assert_allclose(volume.obsm["spatial"], centers, rtol=1e-12)
    slack = grid["voxel_size"]
    assert (centers > places.min(0) - slack).all()
    assert (centers < places.max(0) + slack).all()
    for name in ("density", "uncertainty", "section_distance"):
        assert np.isfinite(volume.obs[name]).all()
        assert (volume.obs[name] >= 0).all()
    assert np.isfinite(volume.X).all()
    per_layer = volume.obs["density"].groupby(volume.obsm["voxel"][:, 2]).sum()
    sizes = stack.obs["section"].value_counts(sort=False).to_numpy()
    z = stack.uns["isost"]["sections"]["z"]
    depths = np.minimum(grid["origin"][2] + (per_layer.index + 0.5) * grid["voxel_size"], z[-1])
    np.testing.assert_allclose(per_layer, np.interp(depths, z, sizes), rtol=1e-5)


def assert_is_section(section: ad.AnnData, stack: ad.AnnData) -> None:
    assert section.n_obs > 0
    X, low, high = _dense(section.X), _dense(stack.X).min(0), _dense(stack.X).max(0)
    assert np.isfinite(X).all()
    assert (low - 1e-5 * np.abs(low) <= X).all()
    assert (high + 1e-5 * np.abs(high) >= X).all()
    assert np.isfinite(section.layers["mean"]).all()
    assert np.isfinite(section.layers["std"]).all()
    assert (section.layers["std"] >= 0).all()
    assert np.isfinite(section.obsm["spatial"]).all()
    assert section.obs["type of cell"].isna().equals(section.obs["type of cell_probability"].isna())


@cases(0.2)
@given(anything(sound=True))
def test_evaluate(case: Case) -> None:
    before = everything(case.sections)
    with refusals_of_our_own():
        scores = isost.tl.evaluate(case.sections, progress=False, stack_kws=case.stack_kws, fit_kws=QUICK)
        means = scores.loc["mean", "all"]
        undefined = means["verdict"].str.startswith("not defined")
        assert np.isfinite(means.loc[~undefined].drop(columns="verdict").to_numpy(float)).all()
    assert_unchanged(before, case.sections)


@cases(0.1)
@given(anything(sound=True), st.sampled_from([".h5ad", ".zarr"]))
def test_files(case: Case, suffix: str) -> None:
    stack = isost.pp.slice_stack(case.sections, **case.stack_kws)
    with refusals_of_our_own(), tempfile.TemporaryDirectory() as folder:
        model = isost.tl.fit(stack, progress=False, n_cells=5, **QUICK)
        edge = float(np.ptp(stack.obsm["spatial"], axis=0).max() / 5)
        made = {"stack": stack, "volume": isost.tl.reconstruct(stack, model=model, voxel_size=edge)}
        for name, adata in made.items():
            before, path = everything([adata]), Path(folder) / f"{name}{suffix}"
            isost.io.write(adata, path)
            assert_unchanged(before, [adata])
            assert_unchanged(before, [isost.io.read(path)])
        isost.io.write_image(made["volume"], Path(folder) / "volume.tif", channels=[stack.var_names[0]])
        model.save(Path(folder) / "model")
        again = isost.tl.reconstruct(stack, model=isost.IsoST.load(Path(folder) / "model"), voxel_size=edge)
    np.testing.assert_array_equal(again.X, made["volume"].X)


@cases(0.1)
@given(anything(sound=True), st.sampled_from(["type of cell", "Gene 0 β", None]))
def test_pictures(case: Case, color: str | None) -> None:
    stack = isost.pp.slice_stack(case.sections, **case.stack_kws)
    with refusals_of_our_own(), figures_closed():
        model = isost.tl.fit(stack, progress=False, n_cells=5, **QUICK)
        edge = float(np.ptp(stack.obsm["spatial"], axis=0).max() / 5)
        volume = isost.tl.reconstruct(stack, model=model, voxel_size=edge)
        middle = float(stack.uns["isost"]["sections"]["z"][:2].mean())
        drawn = isost.tl.section(stack, model=model, z=middle)
        before = everything([stack, volume, drawn])
        isost.pl.slices(stack, generated=drawn, color=color, show=False)
        isost.pl.volume(volume, color=color, show=False)
        isost.pl.volume(volume, color=color, backend="plotly", show=False)
        isost.pl.cut(volume, color=color or "density", z=middle, show=False)
        isost.pl.gene_grid(volume, genes=[stack.var_names[0]], show=False)
        isost.pl.uncertainty(volume, show=False)
        isost.pl.training(model, show=False)
        assert_unchanged(before, [stack, volume, drawn])
