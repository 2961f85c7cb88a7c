from __future__ import annotations

import pytest

from isost.training._schedule import BetaSchedule, Phase, phases


def test_beta_is_flat_then_geometric_then_flat() -> None:
    beta = BetaSchedule(start_value=1.0, end_value=0.01, start_iteration=50, n_iterations=100)
    assert [beta(0), beta(50)] == [1.0, 1.0]
    assert beta(100) == pytest.approx(0.1)
    assert beta(75) == pytest.approx(0.01**0.25)
    assert [beta(150), beta(10_000)] == [0.01, 0.01]
    ratios = [beta(i + 1) / beta(i) for i in range(50, 150)]
    assert ratios == pytest.approx([ratios[0]] * 100)


def test_beta_without_iterations_jumps() -> None:
    beta = BetaSchedule(start_value=1.0, end_value=0.5, start_iteration=3, n_iterations=0)
    assert [beta(i) for i in range(5)] == [1.0, 1.0, 1.0, 1.0, 0.5]


def test_beta_defaults_to_one() -> None:
    assert {BetaSchedule()(i) for i in range(10)} == {1.0}


@pytest.mark.parametrize("wrong", [{"start_value": 0.0}, {"end_value": -1.0}, {"n_iterations": -1}])
def test_beta_refuses_what_has_no_logarithm(wrong: dict) -> None:
    with pytest.raises(ValueError, match="beta_start_value"):
        BetaSchedule(**wrong)


@pytest.mark.parametrize(
    ("epochs", "names"),
    [
        (7, ["joint"]),
        ([7], ["joint"]),
        ([1, 2], ["shape", "expression"]),
        ([1, 2, 3], ["shape", "expression", "joint"]),
        ([1, 2, 3, 4], ["joint", "shape", "expression", "joint"]),
        ([0, 2, 3], ["expression", "joint"]),
    ],
)
def test_phases_follow_the_number_of_entries(epochs: int | list[int], names: list[str]) -> None:
    assert [phase.name for phase in phases(epochs)] == names


def test_phase_weights() -> None:
    assert phases([1, 2, 3], alpha=0.2, warm_up_rate=1e-4) == [
        Phase("shape", 1, 1e-4, 0.0),
        Phase("expression", 2, 0.0, 1e-4),
        Phase("joint", 3, 1.0, 0.2),
    ]


@pytest.mark.parametrize("epochs", [[], [1] * 5, [-1], -3])
def test_phases_refuse_other_counts(epochs: int | list[int]) -> None:
    with pytest.raises(ValueError, match="one to four numbers of epochs"):
        phases(epochs)
