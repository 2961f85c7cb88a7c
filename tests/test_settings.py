from __future__ import annotations

import pytest

import isost


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("precision", "float16", "precision must be 'float32' or 'bfloat16', got 'float16'"),
        ("n_threads", 0, "n_threads must be a whole number, at least 1, got 0"),
        ("n_threads", "2", "n_threads must be a whole number, at least 1, got '2'"),
    ],
)
def test_impossible_settings_are_refused(name: str, value: object, message: str) -> None:
    before = getattr(isost.settings, name)
    with pytest.raises(ValueError, match=message):
        setattr(isost.settings, name, value)
    assert getattr(isost.settings, name) == before
    assert f"{name}={before!r}" in repr(isost.settings)


def test_a_volume_in_bfloat16_is_about_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = isost.datasets.organ(n_sections=3, cells_per_section=200, n_genes=20)
    stack = isost.pp.slice_stack(sections, n_comps=3, check=False)
    model = isost.tl.fit(stack, epochs=20, hidden_dim=16, n_cells=20, adaptive=False)
    wanted = isost.tl.reconstruct(stack, model=model)
    monkeypatch.setattr(isost.settings, "precision", "bfloat16")
    found = isost.tl.reconstruct(stack, model=model)
    apart = found.obs["density"].sub(wanted.obs["density"], fill_value=0).abs()
    assert 0 < apart.mean() < 0.05 * wanted.obs["density"].mean()
    assert found.uns["isost"]["provenance"]["precision"] == "bfloat16"
