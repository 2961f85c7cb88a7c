from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from isost.io import split_sections


def labelled(values):
    obs = pd.DataFrame({"section": values}, index=[str(i) for i in range(len(values))])
    return AnnData(np.arange(len(values), dtype=np.float32)[:, None], obs=obs)


def test_order_of_appearance():
    split = split_sections(labelled(["b", "a", "b", "c"]))
    assert {name: list(part.X[:, 0]) for name, part in split.items()} == {"b": [0, 2], "a": [1], "c": [3]}


def test_order_of_categories():
    split = split_sections(labelled(pd.Categorical(["b", "a", "b"], categories=["c", "b", "a"])))
    assert list(split) == ["b", "a"]


def test_numbers_become_names():
    assert list(split_sections(labelled([10, 2, 10]))) == ["10", "2"]


def test_errors():
    with pytest.raises(KeyError, match=r"no column 'slice'.*section_key="):
        split_sections(labelled(["a"]), section_key="slice")
    with pytest.raises(ValueError, match=r"obs\['section'\] is missing for 1 points"):
        split_sections(labelled(["a", None, "b"]))
    with pytest.raises(ValueError, match=r"names that are the same as text, in \[1, '1'\]; rename them"):
        split_sections(labelled([1, "1"]))
