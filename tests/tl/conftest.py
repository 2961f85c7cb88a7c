from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import isost
from isost.model import IsoST

if TYPE_CHECKING:
    from collections.abc import Callable

N_COMPS = 6


@pytest.fixture(scope="session")
def organ_sections() -> list[AnnData]:
    """Sections of the synthetic organ, in z order; shared by all tests, so none may change them."""
    return isost.datasets.organ(n_sections=4, cells_per_section=250, n_genes=40, uneven=True)


@pytest.fixture(scope="session")
def stack(organ_sections: list[AnnData]) -> AnnData:
    return isost.pp.slice_stack(organ_sections, n_comps=N_COMPS)


@pytest.fixture(scope="session")
def fit_kws() -> dict[str, Any]:
    """Small and quick, nothing to be chosen from the sections."""
    chosen = {"n_cells": 30, "adaptive": False, "expression_shift": 0.5}
    return {"epochs": 15, "hidden_dim": 16, **chosen, "progress": False}


@pytest.fixture(scope="session")
def model(stack: AnnData, fit_kws: dict[str, Any]) -> IsoST:
    return isost.tl.fit(stack, **fit_kws)


@pytest.fixture(scope="session")
def noisy_model(model: IsoST) -> IsoST:
    """The same drifts, with noise on the way."""
    return IsoST(
        dataclasses.replace(model.settings, sigma=(0.05, 0.05, 0.0, 0.05)),
        model.forward,
        model.backward,
        normalization=model.normalization,
        genes=model.genes,
        loadings=model.loadings,
        component_variance=model.component_variance,
        cell_variance=model.cell_variance,
    )


@pytest.fixture(scope="session")
def volume(stack: AnnData, model: IsoST) -> AnnData:
    return isost.tl.reconstruct(stack, model=model, voxel_size=24.0)


def _same(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, AnnData):
        _same(a.X, b.X, "X")
        _same(a.obs, b.obs, "obs")
        _same(a.var, b.var, "var")
        for name in ("obsm", "varm", "layers", "uns"):
            _same(dict(getattr(a, name)), dict(getattr(b, name)), name)
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key, value in a.items():
            _same(value, b[key], f"{where}[{key!r}]")
    elif isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    elif sp.issparse(a):
        _same(a.toarray(), b.toarray(), where)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        np.testing.assert_array_equal(a, b, err_msg=where)
    else:
        assert a == b, where


@pytest.fixture(scope="session")
def assert_same() -> Callable[[AnnData, AnnData], None]:
    """Check that two AnnData agree in every field, to the last bit."""
    return lambda a, b: _same(a, b, "AnnData")
