from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from isost.field import choose_smoothing
from isost.field._smoothing import _best

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _sections(
    n_sections: int, n: int, *, noise: float, seed: int = 0
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], NDArray[np.float64]]:
    """A fine wave on the plane, the same at every depth, with noise of its own in every cell."""
    rng = np.random.default_rng(seed)
    positions = [rng.random((n, 2)) for _ in range(n_sections)]
    waves = [np.c_[np.sin(9 * p[:, 0]), np.cos(9 * p[:, 1])] for p in positions]
    return positions, [w + noise * rng.normal(size=w.shape) for w in waves], np.arange(n_sections) * 0.1


def _width(sections: Any, *, seed: int = 0, **decided: Any) -> int:
    return choose_smoothing(*sections, generator=np.random.default_rng(seed), **decided)[0]


@pytest.mark.parametrize("n_sections", [2, 4])
def test_noise_asks_for_a_wider_window(n_sections: int) -> None:
    clean, noisy, drowned = (_width(_sections(n_sections, 400, noise=noise)) for noise in (0.0, 0.5, 5.0))
    assert clean <= 12
    assert clean < noisy < drowned
    assert drowned >= 96


def test_same_seed_same_choice() -> None:
    sections = _sections(3, 300, noise=0.5)
    chosen = {choose_smoothing(*sections, generator=np.random.default_rng(3)) for _ in range(2)}
    assert len(chosen) == 1


def test_of_many_sections_some_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = _sections(9, 200, noise=0.5)
    read: set[int] = set()

    class Values(list):
        def __getitem__(self, k: int) -> Any:
            read.add(k)
            return super().__getitem__(k)

    every = _width(sections)
    monkeypatch.setattr("isost.field._smoothing._PROBES_ENOUGH", 2 * 200)  # the two ends, which cannot be left out
    some = _width((sections[0], Values(sections[1]), sections[2]))
    assert read == {0, 8}
    assert every / 2 < some < every * 2


def test_two_errors_are_averaged() -> None:
    # sections that share nothing: the cell's own section is smooth, its neighbours' mean is best taken very wide
    positions, values, depths = _sections(3, 400, noise=0.0)
    values = [v * sign for v, sign in zip(values, (1, -1, 1), strict=True)]
    alone = _width((positions[:2], values[:2], depths[:2]))
    assert _width((positions, values, depths)) > 2 * alone


def test_edges_ask_for_adaptive_weights_and_slopes_do_not() -> None:
    rng = np.random.default_rng(0)
    positions, depths = [rng.random((900, 2)) for _ in range(3)], np.arange(3) * 0.1
    gains = rng.normal(size=(2, 6))
    edges = [np.sign(np.sin(9 * p)) @ gains + rng.normal(size=(len(p), 6)) for p in positions]
    slopes = [3 * p @ gains + rng.normal(size=(len(p), 6)) for p in positions]
    assert choose_smoothing(positions, edges, depths, generator=rng)[1]
    assert not choose_smoothing(positions, slopes, depths, generator=rng)[1]


def test_what_is_decided_stays() -> None:
    sections = _sections(3, 200, noise=0.5)
    assert _width(sections, n_cells=21) == 21
    for adaptive in (False, True):
        found = choose_smoothing(*sections, generator=np.random.default_rng(0), adaptive=adaptive)
        assert found[1] is adaptive
        assert choose_smoothing(*sections, generator=np.random.default_rng(0), n_cells=9, adaptive=adaptive) == (
            9,
            adaptive,
        )


@pytest.mark.parametrize("n", [1, 2, 6, 9, 13])
def test_small_sections_get_what_they_have(n: int) -> None:
    width = _width(_sections(3, n, noise=0.1))
    assert 1 <= width <= max(n, 1)


def test_minimum_lies_between_candidates() -> None:
    candidates = (8, 12, 17, 24, 34)
    error = (np.log(candidates) - np.log(15.0)) ** 2
    assert _best(candidates, error) == pytest.approx(15.0)
    assert _best(candidates, np.arange(5.0)) == 8
    assert _best(candidates, -np.arange(5.0)) == 34
    assert _best(candidates, np.zeros(5)) == 8
