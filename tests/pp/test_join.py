from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from isost.pp._join import join_colors, join_obs, join_obsm, join_var


def frame(prefix, n=3, **columns):
    return pd.DataFrame(columns, index=[f"{prefix}{i}" for i in range(n)])


def test_columns_of_all_sections():
    obs = join_obs({"s": frame("a", area=[1.0, 2, 3]), "t": frame("b", batch=["x", "y", "x"])})
    assert list(obs.columns) == ["area", "batch"]
    np.testing.assert_array_equal(obs["area"], [1, 2, 3, np.nan, np.nan, np.nan])
    assert list(obs.loc["b0":, "batch"]) == ["x", "y", "x"]


def test_categories_are_united_in_order_of_appearance():
    first = frame("a", kind=pd.Categorical(["low", "mid", "low"], categories=["low", "mid", "high"]))
    second = frame("b", kind=pd.Categorical(["top", "low", None], categories=["low", "top"]))
    obs = join_obs({"s": first, "t": second, "u": frame("c")})
    assert list(obs["kind"].cat.categories) == ["low", "mid", "high", "top"]
    assert not obs["kind"].cat.ordered
    assert list(obs["kind"].dropna()) == ["low", "mid", "low", "top", "low"]


def test_order_of_categories_is_kept_where_all_agree():
    kind = pd.CategoricalDtype(["young", "old"], ordered=True)
    first = frame("a", stage=pd.Categorical(["old", "young", "old"], dtype=kind))
    agreeing = join_obs({"s": first, "t": frame("b", stage=pd.Categorical(["old"] * 3, dtype=kind))})
    assert agreeing["stage"].cat.ordered
    reverse = pd.Categorical(["old"] * 3, categories=["old", "young"], ordered=True)
    assert not join_obs({"s": first, "t": frame("b", stage=reverse)})["stage"].cat.ordered


def test_categories_beside_plain_values_become_plain():
    obs = join_obs({"s": frame("a", kind=pd.Categorical(list("xyx"))), "t": frame("b", kind=["x", "z", "z"])})
    assert list(obs["kind"]) == list("xyxxzz")


def test_yes_or_no_that_a_section_lacks():
    obs = join_obs({"s": frame("a", keep=[True, False, True]), "t": frame("b")})
    assert obs["keep"].dtype == pd.BooleanDtype()
    assert obs["keep"].isna().sum() == 3


def test_row_names():
    assert list(join_obs({"s": frame("a", 2), "t": frame("b", 1)}).index) == ["a0", "a1", "b0"]
    assert list(join_obs({"s": frame("a", 2), "t": frame("a", 1)}).index) == ["s-a0", "s-a1", "t-a0"]
    twice = pd.DataFrame(index=["a", "a"])
    assert join_obs({"s": twice, "t": frame("b", 1)}).index.is_unique


def test_var_keeps_what_all_agree_on(make_section):
    listed = [make_section(0), make_section(1)[:, ::-1].copy()]
    for section in listed:
        section.var["symbol"] = section.var_names.str.upper()
        section.var["n_cells"] = np.asarray(section.X > 0).sum(axis=0)
    var = join_var(listed, listed[0].var_names[:3])
    assert list(var.columns) == ["symbol"]
    assert list(var["symbol"]) == ["GENE0", "GENE1", "GENE2"]


def test_obsm_of_all_sections(make_section):
    listed = [make_section(0), make_section(1)]
    for i, section in enumerate(listed):
        section.obsm["umap"] = np.full((section.n_obs, 2), i)
        section.obsm["widths"] = np.zeros((section.n_obs, 2 + i))
        section.obsm["sparse"] = sparse.csr_matrix((section.n_obs, 2))
    listed[0].obsm["alone"] = np.zeros((listed[0].n_obs, 2))
    joined = join_obsm(listed)
    assert set(joined) == {"spatial", "umap"}
    np.testing.assert_array_equal(joined["umap"][:, 0], np.repeat([0, 1], 30))


def colored(make_section, seed, kinds, colors):
    section = make_section(seed, n=6)
    section.obs["kind"] = pd.Categorical((kinds * 6)[:6], categories=kinds)
    section.uns["kind_colors"] = colors
    return section


def test_colors(make_section):
    first = colored(make_section, 0, ["b", "a"], np.array(["#00f", "#f00"]))
    second = colored(make_section, 1, ["a", "c"], ["#f00", "#0f0"])
    first.uns["free_colors"] = ["#000"]
    obs = join_obs({"s": first.obs, "t": second.obs})
    assert join_colors([first, second], obs) == {"kind_colors": ["#00f", "#f00", "#0f0"]}
    second.uns["kind_colors"] = ["#123", "#0f0"]
    assert join_colors([first, second], obs) == {}
    del second.uns["kind_colors"]
    assert join_colors([first, second], obs) == {}
