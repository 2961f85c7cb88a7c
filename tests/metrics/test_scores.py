from __future__ import annotations

import numpy as np
import pytest

from isost import metrics
from isost.metrics import Section

NAMES = ["r_cell", "r_voxel", "r_density", "energy", "d_moran", "var_ratio", "n_ratio", "agree"]


@pytest.mark.parametrize(("n_generated", "n_measured", "n_genes"), [(300, 400, 5), (900, 250, 30), (60, 60, 8)])
def test_scores_are_those_of_the_definition(fidelity, tissue, n_generated, n_measured, n_genes):
    generated, measured = tissue(1, n_generated), tissue(2, n_measured)
    ours = metrics.score(generated, measured, n_genes=n_genes)
    theirs = fidelity.score(
        {0: (generated.positions, generated.expression, generated.mean)},
        {0: (measured.positions, measured.expression)},
        n_genes,
    )
    assert list(ours) == list(theirs.index)
    for name in theirs.index:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name


def test_energy_distance_of_many_points_is_that_of_the_definition(fidelity):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(6500, 2)), rng.normal(size=(300, 2))
    assert metrics.energy_distance(a, b) == pytest.approx(fidelity.energy(a, b), abs=1e-9)


@pytest.mark.data
@pytest.mark.parametrize(("name", "held_out"), [("merfish", 1), ("bdtnp", 9)])
def test_scores_of_measured_sections_are_those_of_the_definition(fidelity, name, held_out):
    stack, _ = fidelity.sections(name)
    stack = [section[:: max(1, section.n_obs // 700)].copy() for section in stack]
    ours = [Section(s.obsm["spatial"], np.asarray(s.X, dtype=float), z=float(s.obs["z"].iloc[0])) for s in stack]
    below, measured, above = ours[held_out - 1 : held_out + 2]
    theirs = fidelity.baselines(stack, [held_out], seed=4)
    truth = {held_out: (measured.positions, measured.expression)}
    for kind in metrics.BASELINES:
        generated = metrics.baseline(kind, below, above, z=measured.z, seed=4, measured=measured)
        positions, sampled, mean = theirs[kind][held_out]
        assert np.array_equal(generated.positions, positions)
        assert np.allclose(generated.expression, sampled, atol=1e-9)
        assert np.allclose(generated.mean, mean, atol=1e-9)
        defined = fidelity.score({held_out: theirs[kind][held_out]}, truth)
        for key, value in metrics.score(generated, measured).items():
            assert value == pytest.approx(defined[key], abs=1e-9), (kind, key)


def test_a_section_scores_perfectly_against_itself(tissue):
    measured = tissue(5, 500)
    scores = metrics.score(Section(measured.positions, measured.expression), measured)
    assert list(scores) == NAMES
    assert scores["d_moran"] == 0
    assert scores["var_ratio"] == pytest.approx(1)
    assert scores["n_ratio"] == 1
    assert scores["agree"] == pytest.approx(1)
    # Cells meet themselves in the energy distance, so the unbiased estimate is just below 0.
    assert -0.02 < scores["energy"] < 0


def test_worse_sections_score_worse(tissue):
    measured, good = tissue(6, 600), tissue(7, 600)
    order = np.random.default_rng(0).permutation(600)
    shuffled = Section(good.positions, good.expression[order], good.mean[order])
    squeezed = Section((good.positions - [1000, -50]) * [0.4, 1] + [1000, -50], good.expression, good.mean)
    best, without_pattern, wrong_shape = (metrics.score(s, measured) for s in (good, shuffled, squeezed))
    for name in ("r_cell", "r_voxel"):
        assert best[name] > without_pattern[name] + 0.2
    assert best["d_moran"] < without_pattern["d_moran"]
    assert best["energy"] < without_pattern["energy"] < wrong_shape["energy"]
    assert best["r_density"] > wrong_shape["r_density"]


def test_per_gene_table_averages_to_the_score(tissue):
    generated, measured = tissue(8, 300), tissue(9, 300)
    table, scores = metrics.per_gene(generated, measured), metrics.score(generated, measured)
    assert table["gene"].tolist() == list(range(12))
    assert {len(column) for column in table.values()} == {12}
    for name in ("r_cell", "r_voxel", "d_moran", "agree"):
        assert table[name].mean() == pytest.approx(scores[name], abs=1e-12)
    assert np.median(table["var_ratio"]) == pytest.approx(scores["var_ratio"], abs=1e-12)
    few = metrics.per_gene(generated, measured, genes=[7, 2])
    assert few["r_cell"].tolist() == pytest.approx(table["r_cell"][[7, 2]].tolist())
    assert few["morans_i"].tolist() == pytest.approx(
        metrics.morans_i(measured.positions, measured.expression)[[7, 2]].tolist()
    )


def test_score_keeps_the_genes_of_the_strongest_pattern(tissue):
    generated, measured = tissue(10, 300), tissue(11, 300)
    table = metrics.per_gene(generated, measured)
    strongest = np.argsort(table["morans_i"])[-3:]
    assert metrics.score(generated, measured, n_genes=3)["r_cell"] == pytest.approx(table["r_cell"][strongest].mean())


def test_without_full_bins_the_scores_of_bins_are_undefined():
    # Eight cells in a strip: bins as wide as a tenth of it hold one each.
    strip = np.column_stack([np.linspace(0, 100, 8), np.tile([0.0, 1.0], 4)])
    section = Section(strip, np.random.default_rng(0).normal(size=(8, 2)))
    scores = metrics.score(section, section)
    assert np.isnan([scores["r_voxel"], scores["agree"]]).all()
    assert np.isfinite([scores["r_cell"], scores["d_moran"], scores["energy"]]).all()


def test_a_flat_density_adds_nothing(tissue):
    far = Section(np.array([[1e6, 1e6], [2e6, 2e6]]), np.ones((2, 12)))
    assert metrics.r_density(far, tissue(12, 50)) == 0


def test_different_genes_are_refused(tissue):
    with pytest.raises(ValueError, match="same genes in the same order"):
        metrics.score(tissue(0, 20, n_genes=3), tissue(0, 20, n_genes=4))


def test_cells_on_a_line_are_refused():
    line = Section(np.column_stack([np.arange(20.0), np.zeros(20)]), np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(ValueError, match="lie on one line"):
        metrics.score(line, line)
