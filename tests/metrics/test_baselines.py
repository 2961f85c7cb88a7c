from __future__ import annotations

import numpy as np
import pytest

from isost import metrics
from isost.metrics import Section, baseline


@pytest.fixture
def pair(tissue):
    return tissue(1, 200, z=10.0), tissue(2, 300, z=20.0)


@pytest.mark.parametrize(("z", "nearer"), [(10.0, 0), (15.0, 0), (15.1, 1), (20.0, 1)])
def test_copy_takes_the_nearer_section(pair, z, nearer):
    generated = baseline("copy", *pair, z=z)
    assert np.array_equal(generated.positions, pair[nearer].positions)
    assert np.array_equal(generated.mean, pair[nearer].expression)
    assert generated.z == z


def test_dissolve_draws_from_each_by_distance(pair):
    counts = []
    for seed in range(200):
        generated = baseline("dissolve", *pair, z=12.5, seed=seed)
        counts.append(np.isin(generated.positions[:, 0], pair[0].positions[:, 0]).sum())
        if seed == 0:
            first = generated
    assert np.mean(counts) == pytest.approx(150, abs=4 * np.sqrt(200 * 0.75 * 0.25 / 200))
    assert np.array_equal(first.positions, baseline("dissolve", *pair, z=12.5, seed=0).positions)


def test_at_a_section_dissolve_is_that_section(pair):
    assert np.array_equal(baseline("dissolve", *pair, z=10.0).expression, pair[0].expression)
    assert np.array_equal(baseline("dissolve", *pair, z=20.0).expression, pair[1].expression)


@pytest.mark.parametrize("name", ["linear", "local"])
def test_smooth_baselines_mix_both_sections(name):
    rng = np.random.default_rng(0)
    below = Section(rng.random((100, 2)), np.full((100, 3), 2.0), z=0.0)
    above = Section(rng.random((100, 2)), np.full((100, 3), 6.0), z=1.0)
    generated = baseline(name, below, above, z=0.25, seed=3)
    assert np.allclose(generated.expression, 3)
    assert np.array_equal(generated.positions, baseline("dissolve", below, above, z=0.25, seed=3).positions)


def test_self_is_the_measured_section_smoothed_by_its_others(pair, tissue):
    measured = tissue(3, 50, z=15.0)
    generated = baseline("self", *pair, z=15.0, measured=measured)
    distance = np.linalg.norm(measured.positions[:, None] - measured.positions[None], axis=2)
    others = np.argsort(distance, axis=1)[:, 1:11]
    assert np.array_equal(generated.expression, measured.expression)
    assert np.allclose(generated.mean, measured.expression[others].mean(1), atol=1e-12)


def test_random_baselines_are_those_that_a_seed_changes(pair, tissue):
    measured = tissue(3, 50, z=15.0)
    changed = []
    for name in metrics.BASELINES:
        a, b = (baseline(name, *pair, z=15.0, seed=seed, measured=measured) for seed in (0, 1))
        if not np.array_equal(a.positions, b.positions):
            changed.append(name)
    assert tuple(changed) == metrics.RANDOM_BASELINES


def test_bad_requests_are_refused(pair):
    with pytest.raises(ValueError, match="pass it as measured="):
        baseline("self", *pair, z=15.0)
    with pytest.raises(ValueError, match="unknown baseline 'cubic'"):
        baseline("cubic", *pair, z=15.0)
    with pytest.raises(ValueError, match="not between the sections"):
        baseline("copy", *pair, z=25.0)
    with pytest.raises(ValueError, match="z=depth"):
        baseline("copy", Section(pair[0].positions, pair[0].expression), pair[1], z=15.0)
