from __future__ import annotations

import numpy as np
import pytest

from isost.tl._verdict import compare, trust


def draws(*scores: float, n_draws: int = 1, spread: float = 0.0) -> np.ndarray:
    """Scores of some sections, (draws, sections), whose mean over draws is as given."""
    noise = spread * np.linspace(-1, 1, n_draws)[:, None] if n_draws > 1 else 0.0
    return np.array([scores] * n_draws) + noise


@pytest.mark.parametrize(
    ("metric", "isost", "copy", "linear", "expected"),
    [
        ("r_voxel", 0.65, 0.5, 0.62, "better than linear by 0.03"),
        ("r_cell", 0.5, 0.4, 0.62, "worse than linear by 0.12"),
        ("energy", 0.004, 0.005, 0.3, "better than copy by 0.001"),
        ("d_moran", 0.2, 0.1, 0.3, "worse than copy by 0.1"),
        ("var_ratio", 0.9, 1.3, 0.2, "better than copy by 0.2"),
        ("n_ratio", 1.2, 0.9, 1.5, "worse than copy by 0.1"),
        ("r_density", 0.9, 0.9, 0.8, "on a par with copy (within 0)"),
    ],
)
def test_the_best_baseline_is_what_counts(metric: str, isost: float, copy: float, linear: float, expected: str) -> None:
    scores = {"isost": draws(isost), "copy": draws(copy), "linear": draws(linear, n_draws=5), "self": draws(1.0)}
    assert compare(metric, scores) == expected


def test_a_difference_that_varies_between_sections_is_none() -> None:
    even = {"isost": draws(0.63, 0.43, 0.53), "copy": draws(0.6, 0.4, 0.5)}
    assert compare("r_cell", even) == "better than copy by 0.03"
    uneven = {"isost": draws(0.7, 0.36, 0.53), "copy": draws(0.6, 0.4, 0.5)}
    differences = np.array([0.1, -0.04, 0.03])
    noise = 2 * differences.std(ddof=1) / np.sqrt(3)
    assert compare("r_cell", uneven) == f"on a par with copy (within {noise:.2g})"


def test_many_sections_that_all_agree_overrule_their_spread() -> None:
    copy = np.array([-0.2, 0.4, 0.95, 0.97, 0.96])
    isost = np.array([0.9, 0.96, 0.98, 0.99, 0.965])
    assert compare("r_density", {"isost": draws(*isost), "copy": draws(*copy)}).startswith("better than copy by 0.34")
    assert compare("r_density", {"isost": draws(*isost[:4]), "copy": draws(*copy[:4])}).startswith("on a par")
    isost[4] = 0.955
    assert compare("r_density", {"isost": draws(*isost), "copy": draws(*copy)}).startswith("on a par")


def test_ratios_above_and_below_one_do_not_cancel() -> None:
    scores = {"isost": draws(1.3, 1.2, 1.3, 1.2, 1.3), "copy": draws(0.4, 1.6, 0.4, 1.6, 1.5)}
    assert compare("n_ratio", scores) == "better than copy by 0.32"


def test_a_difference_smaller_than_that_between_draws_is_none() -> None:
    scores = {"isost": draws(0.53), "copy": draws(0.1), "linear": draws(0.5, n_draws=5, spread=0.05)}
    noise = 2 * np.std(0.05 * np.linspace(-1, 1, 5), ddof=1)
    assert compare("r_cell", scores) == f"on a par with linear (within {noise:.2g})"
    scores["linear"] = draws(0.5, n_draws=5, spread=0.005)
    assert compare("r_cell", scores) == "better than linear by 0.03"


def test_what_cannot_be_compared_says_why() -> None:
    alone = {"isost": draws(0.5), "self": draws(0.9)}
    assert compare("r_cell", alone) == "not compared: no baseline beside it"
    assert compare("agree", alone | {"copy": draws(1.0)}).startswith("not compared")
    undefined = {"isost": draws(np.nan), "copy": draws(np.nan)}
    assert compare("r_voxel", undefined).startswith("not defined")


def test_sections_without_the_score_do_not_count() -> None:
    scores = {"isost": draws(np.nan, 0.6), "copy": draws(np.nan, 0.5)}
    assert compare("r_voxel", scores) == "better than copy by 0.1"


def test_trust_starts_at_the_moran_from_which_nine_in_ten_genes_do_well() -> None:
    morans_i = np.linspace(1, 0.05, 20)[::-1]
    r_voxel = np.where(morans_i >= 0.5, 0.8, 0.1)
    # 11 genes from 0.5 up do well, and one more of 12 may do badly: 11 / 12 > 0.9
    assert trust(morans_i, r_voxel) == (
        "11 of 20 genes can be trusted; of the 12 with a Moran's I from 0.45 up, 9 in 10 or more"
    )
    assert trust(morans_i, np.ones(20)).endswith("of the 20 with a Moran's I from 0.05 up, 9 in 10 or more")
    for none in (0.49, np.nan):
        assert trust(morans_i, np.full(20, none)) == "0 of 20 genes can be trusted; from no Moran's I up are 9 in 10"


def test_trusted_genes_below_the_threshold_count_too() -> None:
    morans_i, r_voxel = np.linspace(1, 0.05, 20), np.tile([0.8, 0.1], 10)
    assert trust(morans_i, r_voxel) == (
        "10 of 20 genes can be trusted; of the 1 with a Moran's I from 1 up, 9 in 10 or more"
    )


def test_the_threshold_of_trust_is_that_of_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        morans_i = rng.random(40)
        r_voxel = morans_i + 0.2 * rng.normal(size=40)
        good = [level for level in morans_i if (r_voxel[morans_i >= level] >= 0.5).mean() >= 0.9]
        expected = f"from {min(good):.2g} up" if good else "from no Moran's I up"
        assert expected in trust(morans_i, r_voxel)
