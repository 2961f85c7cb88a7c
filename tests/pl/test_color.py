from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from isost.pl._color import MISSING, Classes, Numbers, field, limits, stored_colors, values_of

if TYPE_CHECKING:
    import anndata as ad


def test_a_gene_is_the_same_from_dense_sparse_and_dask(stack: ad.AnnData) -> None:
    import dask.array as da

    expected = np.asarray(stack[:, "Mbp"].X).ravel()
    sparse, lazy = stack.copy(), stack.copy()
    sparse.X = sp.csr_matrix(stack.X)
    lazy.X = da.from_array(stack.X, chunks=(50, 3))
    for adata in (stack, sparse, lazy):
        np.testing.assert_array_equal(values_of(adata, "Mbp", layer=None), expected)
    np.testing.assert_allclose(values_of(sparse, "Mbp", layer="doubled"), 2 * expected)


def test_an_unknown_colour_names_the_nearest_genes(stack: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"gad1.*did you mean 'Gad1'"):
        values_of(stack, "gad1", layer=None)
    stack.obs["Pdgfra"] = 0.0
    with pytest.raises(KeyError, match="see adata"):  # not all that shares some letters
        values_of(stack, "Gfap", layer=None)
    with pytest.raises(KeyError, match="see adata"):
        values_of(stack, "zzzzzzzz", layer=None)
    with pytest.raises(KeyError, match=r"no layer 'counts'; there are \['doubled'\]"):
        values_of(stack, "Gad1", layer="counts")


def test_numbers_are_shaded_and_everything_else_is_painted() -> None:
    assert isinstance(field(pd.Series([1, 2]), name="n", stored={}, palette=None), Numbers)
    flags = field(pd.Series([True, False]), name="flag", stored={}, palette=None)
    assert isinstance(flags, Classes)
    assert flags.categories == ["False", "True"]


def test_colours_come_from_palette_then_uns_then_scanpy() -> None:
    values = pd.Series(pd.Categorical(["x", None, "y"], categories=["y", "x"]))
    stored = {"y": "#00ff00", "x": "#ff00ff", "gone": "#000000"}

    def colors(palette: object, stored: dict = stored) -> list[str]:
        classes = field(values, name="kind", stored=stored, palette=palette)  # type: ignore[arg-type]
        assert isinstance(classes, Classes)
        assert classes.color_of(-1) == MISSING
        return [classes.color_of(code) for code in classes.codes]

    assert colors(None) == ["#ff00ff", MISSING, "#00ff00"]
    assert colors({"x": "red"}) == ["#ff0000", MISSING, MISSING]
    assert colors(["blue", "red"]) == ["#ff0000", MISSING, "#0000ff"]
    assert len(set(colors("tab10"))) == 3
    assert len(set(colors(None, stored={}))) == 3
    with pytest.raises(ValueError, match="1 colours for 2 categories"):
        colors(["blue"])


def test_stored_colours_must_fit_the_categories(stack: ad.AnnData) -> None:
    assert stored_colors(stack, "cell_type") == {"neuron": "#ff0000", "glia": "#0000ff"}
    assert stored_colors(stack, "Gad1") == {}
    stack.uns["cell_type_colors"] = ["#ff0000"]
    assert stored_colors(stack, "cell_type") == {}


@pytest.mark.parametrize("n", [3, 25, 60, 150])
def test_there_is_a_default_colour_for_each_of_many_categories(n: int) -> None:
    classes = field(pd.Series([f"k{i:03}" for i in range(n)]), name="kind", stored={}, palette=None)
    assert isinstance(classes, Classes)
    assert len(classes.colors) == n


def test_limits_are_numbers_percentiles_or_extremes() -> None:
    values = np.r_[np.arange(101.0), np.nan]
    assert limits(values, vmin=None, vmax=None) == (0, 100)
    assert limits(values, vmin="p5", vmax="p99") == (5, 99)
    assert limits(values, vmin=-1, vmax=2.5) == (-1, 2.5)
    assert limits(np.full(3, np.nan), vmin=None, vmax=None) == (0, 1)
    for wrong in ("99", "pp", "p101"):
        with pytest.raises(ValueError, match=f"vmax='{wrong}'"):
            limits(values, vmin=None, vmax=wrong)


def test_a_rare_gene_is_not_lost_to_the_percentile() -> None:
    values = np.zeros(1000)
    values[0] = 3
    assert limits(values, vmin=None, vmax="p99") == (0, 3)
    assert limits(np.zeros(5), vmin=None, vmax="p99") == (0, 1)


def test_one_colour_at_a_time() -> None:
    from anndata import AnnData

    adata = AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["Gad1", "Mbp"]))
    with pytest.raises(TypeError, match="one gene or column at a time"):
        values_of(adata, ["Gad1", "Mbp"], layer=None)  # type: ignore[arg-type]
