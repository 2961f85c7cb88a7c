from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from isost.field import LocalLinear
from isost.generation import Expectation, _expectation, cell_variance, trace_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_CELLS = 20


@pytest.fixture
def positions() -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    return [rng.random((n, 2)) for n in (120, 90, 150)]


@pytest.fixture
def expression(positions: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    waves = [np.column_stack([np.sin(5 * p[:, 0] + k), p @ [1.0, k], p[:, 1] ** 2]) for k, p in enumerate(positions)]
    return [wave + 0.1 * rng.normal(size=wave.shape) for wave in waves]


VARIANCE = np.array([0.01, 0.02, 0.005])


@pytest.fixture
def expectation(positions: list[Any], expression: list[Any]) -> Expectation:
    return Expectation(positions, expression, n_cells=N_CELLS, cell_variance=VARIANCE)


@pytest.fixture
def query() -> NDArray[np.float64]:
    return np.random.default_rng(2).random((40, 2))


@pytest.mark.parametrize(("gap", "fraction", "section"), [(0, 0.0, 0), (0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 2)])
def test_at_a_section_it_is_that_section_smoothed(
    expectation: Expectation,
    positions: list[Any],
    expression: list[Any],
    query: NDArray[np.float64],
    gap: int,
    fraction: float,
    section: int,
) -> None:
    own = LocalLinear(positions[section], expression[section], n_cells=N_CELLS)(query)
    found = expectation(gap, fraction, query)
    np.testing.assert_array_equal(found.mean, own.mean)
    np.testing.assert_allclose(found.variance, own.leverage[:, None] * VARIANCE)
    np.testing.assert_array_equal(found.leverage, own.leverage)
    assert not found.apart.any()
    assert found.bridge == 0


def test_the_mean_is_linear_in_the_fraction(expectation: Expectation, query: NDArray[np.float64]) -> None:
    lower, upper = expectation(1, 0.0, query).mean, expectation(1, 1.0, query).mean
    for t in (0.2, 0.5, 0.9):
        np.testing.assert_allclose(expectation(1, t, query).mean, (1 - t) * lower + t * upper)


def slow_variance(
    positions: list[Any], expression: list[Any], gap: int, t: float, query: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The formula of the docstring, one place and component at a time."""
    fields = [LocalLinear(positions[k], expression[k], n_cells=N_CELLS) for k in (gap, gap + 1)]

    def excess(place: NDArray[np.float64], component: int) -> float:
        lower, upper = (field(place[None]) for field in fields)
        noise = (lower.leverage[0] + upper.leverage[0]) * VARIANCE[component]
        return float((lower.mean[0, component] - upper.mean[0, component]) ** 2 - noise)

    out = np.empty((len(query), len(VARIANCE)))
    for component in range(len(VARIANCE)):
        everywhere = max(0.0, float(np.mean([excess(place, component) for place in positions[gap]])))
        for i, place in enumerate(query):
            lower, upper = (field(place[None]).leverage[0] for field in fields)
            sampling = ((1 - t) ** 2 * lower + t**2 * upper) * VARIANCE[component]
            bridge = t * (1 - t) * (max(0.0, excess(place, component)) + everywhere) / 2
            out[i, component] = sampling + bridge
    return out


def test_the_variance_is_that_of_the_formula(
    expectation: Expectation, positions: list[Any], expression: list[Any], query: NDArray[np.float64]
) -> None:
    for gap, t in ((0, 0.3), (1, 0.5)):
        slow = slow_variance(positions, expression, gap, t, query)
        np.testing.assert_allclose(expectation(gap, t, query).variance, slow)


def test_what_may_happen_between_sections_is_nothing_at_them_and_most_in_mid_gap(
    expectation: Expectation, query: NDArray[np.float64]
) -> None:
    variances = {t: expectation(0, t, query).variance.mean() for t in (0.0, 1e-6, 0.25, 0.5, 0.75, 1 - 1e-6, 1.0)}
    assert variances[1e-6] == pytest.approx(variances[0.0], rel=1e-3)
    assert variances[1 - 1e-6] == pytest.approx(variances[1.0], rel=1e-3)
    assert variances[0.5] > variances[0.25] > variances[0.0]
    assert variances[0.5] > variances[0.75] > variances[1.0]


def test_sections_that_agree_leave_only_their_sampling_variance(
    positions: list[Any], expression: list[Any], query: NDArray[np.float64]
) -> None:
    same = Expectation([positions[0]] * 2, [expression[0]] * 2, n_cells=N_CELLS, cell_variance=VARIANCE)
    alone, middle = same(0, 0.0, query).variance, same(0, 0.5, query).variance
    np.testing.assert_allclose(middle, alone / 2)


def test_each_section_is_prepared_once_on_the_way_through_the_stack(
    positions: list[Any], expression: list[Any], query: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Counted(LocalLinear):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(1)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(_expectation, "LocalLinear", Counted)
    walked = Expectation(positions * 3, expression * 3, n_cells=N_CELLS, cell_variance=VARIANCE)
    for gap in range(8):
        for t in (0.0, 0.3, 0.6, 1.0):
            walked(gap, t, query)
    assert len(made) == 9


def test_cell_variance_of_noise_on_a_plane_is_that_of_the_noise() -> None:
    rng = np.random.default_rng(4)
    spread = np.array([0.3, 1.0, 2.0])
    positions = [rng.random((n, 2)) for n in (1500, 3100)]
    expression = [p @ rng.normal(size=(2, 3)) + spread * rng.normal(size=(len(p), 3)) for p in positions]
    for n_cells in (10, 40):
        measured = cell_variance(positions, expression, n_cells=n_cells)
        np.testing.assert_allclose(measured, spread**2, rtol=0.1)


def test_cell_variance_of_a_plane_without_noise_is_next_to_nothing() -> None:
    p = np.random.default_rng(5).random((400, 2))
    values = np.column_stack([p @ [1.0, 2.0], np.ones(len(p))])
    assert (cell_variance([p], [values], n_cells=20) < 1e-4).all()


def test_the_variance_covers_the_truth_of_a_smooth_field_with_noise() -> None:
    rng = np.random.default_rng(6)
    truth = np.array([[1.0], [-2.0]])
    query = rng.uniform(0.2, 0.8, (200, 2))
    scaled = []
    for _ in range(10):
        positions = [rng.random((300, 2)) for _ in range(2)]
        expression = [p @ truth + 0.5 * rng.normal(size=(len(p), 1)) for p in positions]
        variance = cell_variance(positions, expression, n_cells=30)
        found = Expectation(positions, expression, n_cells=30, cell_variance=variance)(0, 0.5, query)
        scaled.append((found.mean - query @ truth) / np.sqrt(found.variance))
    assert 0.6 < np.std(scaled) < 1.2


def test_the_gap_variance_scales_what_may_happen_between(
    positions: list[Any], expression: list[Any], query: NDArray[np.float64]
) -> None:
    plain, none, twice = (
        Expectation(positions, expression, n_cells=N_CELLS, cell_variance=VARIANCE, gap_variance=factor)(0, 0.3, query)
        for factor in (1.0, 0.0, 2.0)
    )
    np.testing.assert_allclose(none.variance, none.leverage[:, None] * VARIANCE)
    np.testing.assert_allclose(twice.variance - none.variance, 2 * (plain.variance - none.variance))


def test_parts_of_an_estimate_between_sections(
    positions: list[Any], expression: list[Any], query: NDArray[np.float64]
) -> None:
    lower, upper = (LocalLinear(positions[k], expression[k], n_cells=N_CELLS, adaptive=True)(query) for k in (1, 2))
    between = Expectation(positions, expression, n_cells=N_CELLS, adaptive=True, cell_variance=VARIANCE)
    found = between(1, 0.25, query)
    np.testing.assert_allclose(found.mean, 0.75 * lower.mean + 0.25 * upper.mean)
    np.testing.assert_allclose(found.leverage, 0.75**2 * lower.leverage + 0.25**2 * upper.leverage)
    np.testing.assert_allclose(found.apart, lower.mean - upper.mean)
    np.testing.assert_allclose(found.apart_leverage, lower.leverage + upper.leverage)
    assert found.bridge == 0.25 * 0.75


def test_origins_are_where_the_two_sections_are_read(
    positions: list[Any], expression: list[Any], query: NDArray[np.float64]
) -> None:
    lower, upper = (LocalLinear(positions[k], expression[k], n_cells=N_CELLS) for k in (0, 1))
    read = Expectation(positions, expression, n_cells=N_CELLS, cell_variance=VARIANCE)
    found = read(0, 0.4, query, origins=(query - 0.1, query + 0.05))
    np.testing.assert_allclose(found.mean, 0.6 * lower(query - 0.1).mean + 0.4 * upper(query + 0.05).mean)


def test_tissue_is_traced_back_along_the_cells_that_moved(query: NDArray[np.float64]) -> None:
    start, shift = np.random.default_rng(3).random((200, 2)), np.array([0.1, -0.2])
    np.testing.assert_allclose(trace_back(query, start, start + shift, share=1.0), query - shift)
    np.testing.assert_allclose(trace_back(query, start, start + shift, share=0.5), query - shift / 2)
    swollen = trace_back(query, start, 0.5 + 1.2 * (start - 0.5), share=1.0)
    inner = np.abs(query - 0.5).max(1) < 0.4
    np.testing.assert_allclose(swollen[inner], (0.5 + (query - 0.5) / 1.2)[inner], atol=0.02)
    np.testing.assert_array_equal(trace_back(query, start, start + 0.1, share=0.0), query)
    np.testing.assert_array_equal(trace_back(query, start[:0], start[:0], share=1.0), query)
