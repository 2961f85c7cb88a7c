from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isost.training import choose_expression_shift, section_displacements
from isost.training._expression_shift import _redraw

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_a_section_of_equal_cells_can_be_left_out() -> None:
    positions, expression, depths = _sections(3, change=5.0, noise=0.0)
    expression[1][:] = 0.5
    assert 0 <= _chosen((positions, expression, depths)) <= 1


def test_same_seed_same_choice() -> None:
    sections = _sections(3, change=0.3, noise=0.3)
    assert _chosen(sections) == _chosen(sections)


def test_more_sections_than_are_left_out() -> None:
    assert _chosen(_sections(12, change=5.0, noise=0.0, n=60)) == 1.0


def test_redrawn_section_lies_between_its_neighbours() -> None:
    positions, expression, depths = _sections(3, change=5.0, noise=0.0, n=400)
    depths = np.array([0.0, 0.025, 0.1])
    # as the field is at depths 0 and 0.1
    expression[2] = np.c_[positions[2][:, 0] + 0.5, positions[2][:, 1] - 0.5, positions[2].sum(1)]
    below, above = _redraw(
        positions,
        expression,
        depths,
        1,
        section_displacements([positions[0], positions[2]]),
        n_cells=20,
        generator=np.random.default_rng(0),
    )
    assert (below.section, above.section) == (0, 2)
    assert abs(len(below.cells) + len(above.cells) - 400) <= 1
    assert abs(len(above.cells) - 100) <= 12
    for part in (below, above):
        between = np.c_[part.place[:, 0] + 0.125, part.place[:, 1] - 0.125, part.place.sum(1)]
        assert np.abs(expression[part.section][part.cells] + part.change - between).mean() < 0.01
    np.testing.assert_allclose(above.change[:, 0].mean(), -0.375, atol=0.02)
    np.testing.assert_allclose(below.change[:, 0].mean(), 0.125, atol=0.02)


def test_what_sampling_makes_of_the_change_is_what_counts() -> None:
    sections = _sections(4, change=5.0, noise=0.0)

    def unmoved(section: int, cells: NDArray[np.intp]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        def same(change: NDArray[np.float64]) -> NDArray[np.float64]:
            assert change.shape == (len(cells), 3)
            return sections[1][section][cells]

        return same

    generator = np.random.default_rng(0)
    assert choose_expression_shift(*sections, n_cells=30, generator=generator, sampled=unmoved) == 0.0
