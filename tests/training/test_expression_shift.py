from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isost.training import choose_expression_shift
from isost.training._expression_shift import _redrawn

if TYPE_CHECKING:
    from numpy.typing import NDArray

Sections = tuple[list["NDArray[np.float64]"], list["NDArray[np.float64]"], "NDArray[np.float64]"]


def _sections(n_sections: int, *, change: float, noise: float, n: int = 150, seed: int = 0) -> Sections:
    """Expression that rises along x and with depth, and noise of its own in every cell."""
    rng = np.random.default_rng(seed)
    depths = 0.1 * np.arange(n_sections)
    positions = [rng.random((n, 2)) for _ in depths]
    expression = [
        np.c_[p[:, 0] + change * z, p[:, 1] - change * z, p.sum(1)] + noise * rng.normal(size=(n, 3))
        for p, z in zip(positions, depths, strict=True)
    ]
    return positions, expression, depths


def _chosen(sections: Sections, *, n_cells: int = 30, seed: int = 0) -> float:
    return choose_expression_shift(*sections, n_cells=n_cells, generator=np.random.default_rng(seed))


def test_smooth_change_is_followed_whole() -> None:
    assert _chosen(_sections(4, change=5.0, noise=0.0)) == 1.0


def test_noise_alone_is_not_followed() -> None:
    positions, expression, depths = _sections(4, change=0.0, noise=0.0)
    rng = np.random.default_rng(1)
    noise = [rng.exponential(size=e.shape) for e in expression]
    assert _chosen((positions, noise, depths), n_cells=8) < 1


def test_two_sections_give_no_evidence() -> None:
    assert _chosen(_sections(2, change=5.0, noise=0.0)) == 0.5


def test_same_seed_same_choice() -> None:
    sections = _sections(3, change=0.3, noise=0.3)
    assert _chosen(sections) == _chosen(sections)


def test_more_sections_than_are_left_out() -> None:
    assert _chosen(_sections(12, change=5.0, noise=0.0, n=60)) == 1.0


def test_redrawn_section_lies_between_its_neighbours() -> None:
    positions, expression, _ = _sections(2, change=5.0, noise=0.0, n=400)
    place, own, change = _redrawn(positions, expression, 0.25, n_cells=20, generator=np.random.default_rng(0))
    assert abs(len(place) - 400) <= 1
    between = np.c_[place[:, 0] + 5 * 0.025, place[:, 1] - 5 * 0.025, place.sum(1)]
    assert np.abs(own + change - between).mean() < 0.01
    # a cell from below is at section 0's level, one from above at section 1's: three of the first to one of the second
    from_above = np.abs(own[:, 0] - place[:, 0] - 0.5) < np.abs(own[:, 0] - place[:, 0])
    assert abs(from_above.mean() - 0.25) < 0.03
    np.testing.assert_allclose(change[from_above, 0].mean(), -5 * 0.075, atol=0.02)
    np.testing.assert_allclose(change[~from_above, 0].mean(), 5 * 0.025, atol=0.02)
