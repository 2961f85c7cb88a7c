from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp

import isost
from isost.pp import _matrix
from isost.tl._sampling import Sampler
from isost.tl._standard_error import spread_around

from .conftest import N_COMPS

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST


@pytest.fixture(scope="module")
def lazy_stack(organ_sections: list[AnnData], tmp_path_factory: pytest.TempPathFactory) -> AnnData:
    """The same stack, its expression in files."""
    folder = tmp_path_factory.mktemp("sections")
    for i, section in enumerate(organ_sections):
        isost.io.write(section, folder / f"section{i}.h5ad")
    return isost.pp.slice_stack(isost.io.read_sections(folder, lazy=True), n_comps=N_COMPS, lazy=True)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sections whose expression is read, as it is."""
    names: list[str] = []
    original = _matrix.read_expression

    def counted(name: str, *args: Any, **kws: Any) -> Any:
        names.append(name)
        return original(name, *args, **kws)

    monkeypatch.setattr(_matrix, "read_expression", counted)
    return names


def test_a_model_of_a_lazy_stack_is_that_of_the_stack(
    lazy_stack: AnnData, stack: AnnData, fit_kws: dict[str, Any]
) -> None:
    kws = fit_kws | {"epochs": 1, "expression_shift": None}
    lazily, eager = (isost.tl.fit(given, **kws) for given in (lazy_stack, stack))
    np.testing.assert_allclose(lazily.loadings, eager.loadings, atol=1e-5)
    np.testing.assert_allclose(lazily.cell_variance, eager.cell_variance, rtol=1e-5)
    assert lazily.settings == eager.settings


def test_a_section_reads_those_around_it(lazy_stack: AnnData, stack: AnnData, model: IsoST, read: list[str]) -> None:
    z = stack.uns["isost"]["sections"]["z"]
    made = isost.tl.section(lazy_stack, model=model, z=float(z[1:3].mean()))
    assert isinstance(made.X, sp.csr_matrix)
    assert set(read) <= {"section1", "section2"}
    expected = isost.tl.section(stack, model=model, z=float(z[1:3].mean()))
    np.testing.assert_array_equal(made.obsm["spatial"], expected.obsm["spatial"])
    np.testing.assert_array_equal(made.X.toarray(), expected.X.toarray())
    for layer in ("mean", "std"):
        np.testing.assert_allclose(made.layers[layer], expected.layers[layer], rtol=1e-4, atol=1e-5)


def test_a_volume_reads_each_section_about_once(
    lazy_stack: AnnData, stack: AnnData, model: IsoST, read: list[str], tmp_path: Path
) -> None:
    volume = isost.tl.reconstruct(lazy_stack, model=model, voxel_size=24.0, store=tmp_path / "volume.zarr")
    assert sorted(read) == [f"section{i}" for i in range(4)]
    expected = isost.tl.reconstruct(stack, model=model, voxel_size=24.0)
    np.testing.assert_array_equal(volume.obsm["voxel"].compute(), expected.obsm["voxel"])
    np.testing.assert_allclose(volume.X.compute(), expected.X, atol=1e-5)


def test_sampled_expression_and_its_spread_are_those_of_the_stack(lazy_stack: AnnData, stack: AnnData) -> None:
    random = np.random.default_rng(0)
    view = isost.pp.Stack.from_anndata(stack)
    donor, change = random.integers(stack.n_obs, size=30), random.normal(size=(30, N_COMPS)).astype(np.float32)
    lazily, eager = (Sampler(given.X, view)(donor, change) for given in (lazy_stack, stack))
    assert lazily.dtype == eager.dtype
    np.testing.assert_array_equal(lazily.toarray(), eager.toarray())
    weights = sp.random_array((5, stack.n_obs), density=0.02, format="csr", rng=random)
    genes = np.array([3, 1, 20])
    lazily, eager = (spread_around(given.X[:, genes], weights) for given in (lazy_stack, stack))
    np.testing.assert_allclose(lazily, eager)


def test_a_gene_of_a_lazy_stack_is_drawn(lazy_stack: AnnData) -> None:
    import matplotlib.pyplot as plt

    isost.pl.slices(lazy_stack, color=lazy_stack.var_names[0], show=False)
    plt.close("all")
