from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pytest
import torch

import isost
from isost.tl import _inputs
from isost.tl._inputs import Sections, as_device, as_stack, check_fits

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from isost.model import IsoST


def test_a_stack_is_taken_as_it_is_and_sections_are_prepared(stack: AnnData, organ_sections: list[AnnData]) -> None:
    assert as_stack(stack, None) is stack
    prepared = as_stack(organ_sections, {"n_comps": 3})
    assert prepared.obsm["X_isost"].shape == (stack.n_obs, 6)
    with pytest.raises(ValueError, match="no effect on a stack that is already prepared"):
        as_stack(stack, {"n_comps": 3})


def test_sections_are_those_of_the_stack(stack: AnnData) -> None:
    sections = Sections(stack)
    state = stack.obsm["X_isost"]
    np.testing.assert_array_equal(np.concatenate(sections.states), state)
    np.testing.assert_array_equal(np.concatenate(sections.positions), state[:, :2].astype(np.float64))
    np.testing.assert_array_equal(np.concatenate(sections.expression), state[:, 3:])
    np.testing.assert_array_equal(sections.component_scale, stack.uns["isost"]["normalization"]["scale"][3:])


@pytest.mark.parametrize(
    ("axis", "by", "fits"), [(0, 1e-9, True), (0, 1e-3, False), (2, 1e-3, False), (4, 1e-3, False)]
)
def test_a_model_fits_sections_of_one_normalisation_whatever_their_offset(
    stack: AnnData, model: IsoST, axis: int, by: float, fits: bool
) -> None:
    view = Sections(stack).stack
    minimum = view.normalization.minimum + 1e6
    theirs = dataclasses.replace(view.normalization, minimum=minimum)
    moved = minimum.copy()
    moved[axis] += by * view.normalization.scale[axis]
    mine = dataclasses.replace(view, normalization=dataclasses.replace(theirs, minimum=moved))
    there = isost.IsoST(
        model.settings,
        model.forward,
        model.backward,
        normalization=theirs,
        genes=model.genes,
        loadings=model.loadings,
        component_variance=model.component_variance,
        cell_variance=model.cell_variance,
    )
    if fits:
        check_fits(there, stack, mine)
    else:
        with pytest.raises(ValueError, match="another normalisation"):
            check_fits(there, stack, mine)


def test_a_model_of_other_genes_does_not_fit(stack: AnnData, model: IsoST) -> None:
    renamed = stack.copy()
    renamed.var_names = [f"other{i}" for i in range(stack.n_vars)]
    with pytest.raises(ValueError, match=r"knows 40 genes and this stack has 40, or others; call isost\.tl\.fit"):
        check_fits(model, renamed, Sections(renamed).stack)


def test_the_device_is_the_one_named_or_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert as_device(None) == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert as_device(None) == torch.device("cpu")
    with pytest.raises(ValueError, match="device='cuda:0', but there is no GPU here"):
        as_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert as_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="device='cuda:2', but there are 2 here, numbered from 0"):
        as_device("cuda:2")


def test_gaps_of_many_steps_are_warned_of(stack: AnnData) -> None:
    view = Sections(stack).stack
    _inputs.warn_many_steps(view, n_steps=np.array([1, 999, 3]), what="steps")
    message = r"'section1' .* and 'section2' \(z = [\d.]+\) takes 2,000 steps: .* slice_stack\(z=\.\.\.\)"
    with pytest.warns(UserWarning, match=message):
        _inputs.warn_many_steps(view, n_steps=np.array([1, 2000, 3]), what="steps")


def test_what_is_no_stack_is_refused(organ_sections: list[AnnData]) -> None:
    for wrong in (organ_sections, None, "stack.h5ad"):
        given: Any = wrong
        with pytest.raises(TypeError, match=r"a stack is one AnnData, not \w+; call isost\.pp\.slice_stack"):
            Sections(given)


def test_a_stack_in_a_file_is_refused(stack: AnnData, tmp_path: Path) -> None:
    stack.write_h5ad(tmp_path / "stack.h5ad")
    backed = anndata.read_h5ad(tmp_path / "stack.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"backed by a file; call stack\.to_memory\(\)"):
        isost.tl.fit(backed)
    Sections(backed.to_memory())
