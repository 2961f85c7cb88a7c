from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from isost.datasets._genes import Bump, Flat, Ramp, Stripes, gene_programme
from isost.datasets._tissue import CELL_TYPES

BODY = np.random.default_rng(0).uniform(-1, 1, (40, 3))


@pytest.mark.parametrize("n_genes", [20, 57, 200, 501])
def test_as_many_genes_as_asked_of_all_kinds(n_genes):
    programme = gene_programme(n_genes, rng=np.random.default_rng(0))
    assert len(programme.names) == len(set(programme.names)) == len(programme.kinds) == n_genes
    assert list(dict.fromkeys(programme.kinds)) == ["marker", "gradient", "stripe", "patch", "housekeeping", "sparse"]
    assert {f"{name}-1" for name in CELL_TYPES} <= set(programme.names)
    assert {"Grad-ML-1", "Grad-DV-1", "Grad-AP-1", "Stripe-AP-1", "Patch-1"} <= set(programme.names)


def test_shares_of_a_cell_sum_to_one_whether_one_type_or_many():
    programme = gene_programme(60, rng=np.random.default_rng(1))
    effect = programme.place_effect(BODY)
    types = np.arange(len(BODY)) % len(CELL_TYPES)
    each = programme.log_shares(effect, types)
    np.testing.assert_allclose(np.exp(each).sum(axis=1), 1.0)
    for k in range(len(CELL_TYPES)):
        np.testing.assert_allclose(each[types == k], programme.log_shares(effect, k)[types == k])


def test_markers_are_highest_in_their_type():
    programme = gene_programme(200, rng=np.random.default_rng(2))
    effect = programme.place_effect(np.zeros((1, 3)))
    by_type = np.vstack([programme.log_shares(effect, k) for k in range(len(CELL_TYPES))])
    for name, best in zip(programme.names, by_type.argmax(axis=0), strict=True):
        if name.split("-")[0] in CELL_TYPES:
            assert CELL_TYPES[best] == name.split("-")[0]


def test_gradients_run_along_their_axis():
    programme = gene_programme(200, rng=np.random.default_rng(3))
    for axis, label in enumerate(("ML", "DV", "AP")):
        line = np.zeros((9, 3))
        line[:, axis] = np.linspace(-1, 1, 9)
        effect = programme.place_effect(line)
        for gene, name in enumerate(programme.names):
            if name.startswith(f"Grad-{label}"):
                steps = np.diff(effect[:, gene])
                assert (steps > 0).all() or (steps < 0).all()


def test_stripes_turn_more_than_once_along_the_depth():
    programme = gene_programme(200, rng=np.random.default_rng(4))
    depth = np.zeros((200, 3))
    depth[:, 2] = np.linspace(-1, 1, 200)
    effect = programme.place_effect(depth)[:, np.array(programme.kinds) == "stripe"]
    turns = (np.diff(np.sign(np.diff(effect, axis=0)), axis=0) != 0).sum(axis=0)
    assert (turns >= 2).all()


def test_fields_are_what_they_say():
    direction, offset = np.array([[1.0], [0.0], [2.0]]), np.array([0.3])
    along = BODY[:, 0] + 2 * BODY[:, 2] - 0.3
    np.testing.assert_allclose(Ramp(direction, offset)(BODY)[:, 0], np.tanh(along))
    np.testing.assert_allclose(Stripes(direction, offset)(BODY)[:, 0], np.cos(along))
    assert Bump(direction, offset)(direction.T) == 1
    radii = np.array([[1.0, 0.0, 2.0 + r] for r in (0.0, 0.1, 0.5)])
    assert all(a > b for a, b in pairwise(Bump(direction, offset)(radii)[:, 0]))
    assert not Flat(4)(BODY).any()
