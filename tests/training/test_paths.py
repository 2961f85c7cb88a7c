from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isost.field import Estimate, LocalLinear
from isost.training import debiased_displacements
from isost.training._paths import Displacements, Paths, section_displacements, section_paths

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTHS = np.array([0.0, 0.1, 0.3])  # unequal gaps
SIZES = (40, 50, 30)


class _Plane:
    """A linear field, exactly known."""

    def __init__(self, slope: NDArray[np.float64], level: NDArray[np.float64]) -> None:
        self.slope, self.level = slope, level

    def __call__(self, query: NDArray[np.float64]) -> Estimate:
        return Estimate(query @ self.slope + self.level, np.zeros(len(query)))


def _sections(seed: int = 0) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], list[_Plane]]:
    rng = np.random.default_rng(seed)
    positions = [rng.random((n, 2)) for n in SIZES]
    expression = [rng.normal(size=(n, 3)) for n in SIZES]
    return positions, expression, [_Plane(rng.normal(size=(2, 3)), rng.normal(size=3)) for _ in SIZES]


def _displacements(seed: int = 1) -> Displacements:
    rng = np.random.default_rng(seed)
    return Displacements(
        up=[0.1 * rng.normal(size=(n, 2)) for n in SIZES[:-1]], down=[0.1 * rng.normal(size=(n, 2)) for n in SIZES[1:]]
    )


def _paths(shift: float, displacements: Displacements | None = None) -> tuple[Paths, Paths]:
    positions, expression, planes = _sections()
    forward, backward = section_paths(
        positions,
        expression,
        DEPTHS,
        field=planes.__getitem__,
        displacements=displacements or _displacements(),
        expression_shift=shift,
    )
    return _double(forward), _double(backward)


def _double(paths: Paths) -> Paths:
    tensors: dict[str, Any] = {f.name: getattr(paths, f.name) for f in fields(paths) if f.name != "sizes"}
    return replace(paths, **{name: value.double() for name, value in tensors.items()})


def _same(paths: Paths, fraction: float) -> Tensor:
    return torch.full_like(paths.gap, fraction)


def test_paths_start_at_the_cells_and_end_where_they_are_sent() -> None:
    positions, expression, _ = _sections()
    moved = _displacements()
    for paths, own, other, displacement in zip(
        _paths(0.5), ([0, 1], [1, 2]), ([1, 2], [0, 1]), (moved.up, moved.down), strict=True
    ):
        assert paths.sizes == tuple(SIZES[k] for k in own)
        start = np.concatenate([positions[k] for k in own])
        (first, _), (last, _) = (paths.at(_same(paths, t)) for t in (0.0, 1.0))
        np.testing.assert_allclose(first[:, :2], start, atol=1e-6)
        np.testing.assert_allclose(first[:, 3:], np.concatenate([expression[k] for k in own]), atol=1e-6)
        np.testing.assert_allclose(last[:, :2], start + np.concatenate(displacement), atol=1e-6)
        for state, sections in ((first, own), (last, other)):
            wanted = np.repeat(DEPTHS[sections], [SIZES[k] for k in own])
            np.testing.assert_allclose(state[:, 2], wanted, atol=1e-6)


@pytest.mark.parametrize("direction", [0, 1])
def test_drift_is_the_derivative_of_the_state_by_depth(direction: int) -> None:
    paths, step = _paths(0.8)[direction], 1e-5
    for fraction in (torch.tensor([0.2, 0.7]).double(), torch.tensor([0.95, 0.05]).double()):
        (lower, _), (upper, _) = (paths.at(fraction + sign * step) for sign in (-1, 1))
        slope = (upper - lower) / (upper[:, 2:3] - lower[:, 2:3])
        torch.testing.assert_close(paths.at(fraction)[1], slope, rtol=1e-6, atol=1e-6)


def test_every_gap_has_its_own_fraction() -> None:
    paths = _paths(0.5)[0]
    state, drift = paths.at(torch.tensor([0.25, 0.75]).double())
    first = slice(0, SIZES[0])
    alone, rest = paths.at(_same(paths, 0.25)), paths.at(_same(paths, 0.75))
    torch.testing.assert_close(state[first], alone[0][first])
    torch.testing.assert_close(drift[SIZES[0] :], rest[1][SIZES[0] :])


def test_both_directions_leave_a_section_with_one_velocity() -> None:
    forward, backward = _paths(0.0)
    up = forward.at(_same(forward, 0.0))[1][SIZES[0] :, :2]  # section 1, on its way to 2
    down = backward.at(_same(backward, 0.0))[1][: SIZES[1], :2]  # section 1, on its way to 0
    torch.testing.assert_close(up, down, rtol=1e-5, atol=1e-6)
    moved = _displacements()
    wanted = (moved.up[1] / 0.2 - moved.down[0] / 0.1) / 2
    np.testing.assert_allclose(up, wanted, rtol=1e-4, atol=1e-5)


def test_mirrored_depths_swap_forward_and_backward() -> None:
    positions, expression, planes = _sections()
    moved = _displacements()
    mirrored = section_paths(
        positions[::-1],
        expression[::-1],
        DEPTHS[-1] - DEPTHS[::-1],
        field=planes[::-1].__getitem__,
        displacements=Displacements(up=moved.down[::-1], down=moved.up[::-1]),
        expression_shift=0.5,
    )
    for paths, other in zip(_paths(0.5), reversed([_double(part) for part in mirrored]), strict=True):
        (state, drift), (state_there, drift_there) = (part.at(_same(part, 0.3)) for part in (paths, other))
        back = [torch.cat(part.split(other.sizes)[::-1]) for part in (state_there, drift_there)]
        back[0][:, 2] = DEPTHS[-1] - back[0][:, 2]
        back[1][:, [0, 1, *range(3, drift.shape[1])]] *= -1  # a derivative by depth, which itself is mirrored
        torch.testing.assert_close(back[0], state, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(back[1], drift, rtol=1e-5, atol=1e-5)


def test_end_sections_leave_with_the_velocity_of_their_only_gap() -> None:
    forward, backward = _paths(0.0)
    moved = _displacements()
    np.testing.assert_allclose(forward.at(_same(forward, 0.0))[1][: SIZES[0], :2], moved.up[0] / 0.1, rtol=1e-4)
    np.testing.assert_allclose(backward.at(_same(backward, 0.0))[1][SIZES[1] :, :2], -moved.down[1] / 0.2, rtol=1e-4)


def test_drift_is_continuous_across_sections() -> None:
    shifts = np.array([[0.05, 0.02], [-0.03, 0.08]])
    moved = Displacements(
        up=[np.tile(shifts[k], (SIZES[k], 1)) for k in (0, 1)],
        down=[np.tile(-shifts[k], (SIZES[k + 1], 1)) for k in (0, 1)],
    )
    at_section_1 = (shifts / np.diff(DEPTHS)[:, None]).mean(0)
    for paths, arriving, leaving in zip(_paths(0.0, moved), (0, 1), (1, 0), strict=True):
        last, first = (paths.at(_same(paths, t))[1][:, :2].split(paths.sizes) for t in (1.0, 0.0))
        for velocity in (last[arriving], first[leaving]):
            np.testing.assert_allclose(velocity, np.tile(at_section_1, (len(velocity), 1)), rtol=1e-4)


def test_arriving_velocity_is_that_of_the_cells_found_there() -> None:
    positions, expression, planes = _sections()
    still = Displacements(up=[np.zeros((n, 2)) for n in SIZES[:-1]], down=[np.zeros((n, 2)) for n in SIZES[1:]])
    still.up[1][:] = positions[1]  # only section 1's cells move up, each with a velocity of its own
    forward, _ = section_paths(
        positions, expression, DEPTHS, field=planes.__getitem__, displacements=still, expression_shift=0.0
    )
    nearest = np.linalg.norm(positions[0][:, None] - positions[1][None], axis=2).argsort(axis=1)[:, :5]
    wanted = (positions[1] / 0.2 / 2)[nearest].mean(1)
    found = forward.at(_same(forward, 1.0))[1][: SIZES[0], :2]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_without_shift_expression_stays_exactly() -> None:
    positions, expression, planes = _sections()
    forward, backward = section_paths(
        positions, expression, DEPTHS, field=planes.__getitem__, displacements=_displacements(), expression_shift=0.0
    )
    for paths in (forward, backward):
        for t in (0.0, 0.3, 1.0):
            state, drift = paths.at(_same(paths, t))
            assert torch.equal(state[:, 3:], paths.expression)
            assert not drift[:, 3:].any()
    assert torch.equal(forward.expression, torch.from_numpy(np.concatenate(expression[:2])).float())


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_expression_follows_the_expected_one(shift: float) -> None:
    positions, _, planes = _sections()
    for paths, owns, others in zip(_paths(shift), ([0, 1], [1, 2]), ([1, 2], [0, 1]), strict=True):
        for t in (0.0, 0.13, 0.5, 1.0):
            state, _ = paths.at(_same(paths, t))
            changed = (state[:, 3:] - paths.expression).split(paths.sizes)
            for k, (own, other) in enumerate(zip(owns, others, strict=True)):
                place = state[:, :2].split(paths.sizes)[k].numpy()
                # planes along a cubic, mixed linearly: of degree 4 in τ, which the nodes hold exactly
                mean = (1 - t) * planes[own](place).mean + t * planes[other](place).mean
                wanted = shift * (mean - planes[own](positions[own]).mean)
                np.testing.assert_allclose(changed[k], wanted, atol=1e-5)


def test_take_is_the_paths_of_those_cells() -> None:
    paths = _paths(0.5)[0]
    rows = [torch.tensor([3, 0, 7]), torch.tensor([5, 49])]
    fraction = torch.tensor([0.3, 0.6]).double()
    every = [part.split(paths.sizes) for part in paths.at(fraction)]
    taken = paths.take(dict(enumerate(rows)))
    assert taken.sizes == (3, 2)
    for found, whole in zip(taken.at(fraction), every, strict=True):
        torch.testing.assert_close(found, torch.cat([part[r] for part, r in zip(whole, rows, strict=True)]))

    without_second = paths.take({0: rows[0]})
    assert without_second.sizes == (3,)
    torch.testing.assert_close(without_second.at(fraction[:1])[0], every[0][0][rows[0]])
    without_first = paths.take({1: rows[1]})
    torch.testing.assert_close(without_first.at(fraction[1:])[1], every[1][1][rows[1]])


def test_moving_to_a_device_keeps_everything() -> None:
    paths = _paths(0.5)[0]
    moved = paths.to(torch.device("meta"))
    assert moved.start.device.type == moved.change.device.type == moved.gap.device.type == "meta"
    assert moved.sizes == paths.sizes
    assert paths.start.device.type == "cpu"


def test_equal_sections_stay_where_they_are() -> None:
    position = np.random.default_rng(0).random((200, 2))
    moved = section_displacements([position, position.copy()])
    assert not moved.up[0].any()
    assert not moved.down[0].any()


def test_outline_moves_with_a_shifted_section() -> None:
    rng = np.random.default_rng(0)
    section = 0.1 * rng.random((150, 2))  # small beside the reach: moved whole
    other = section[rng.permutation(150)] + [0.05, 0.0]
    moved = section_displacements([section, other, section])
    assert [len(m) for m in (*moved.up, *moved.down)] == [150] * 4
    for up, down in zip(moved.up, moved.down, strict=True):
        np.testing.assert_allclose(up.mean(0), -down.mean(0), atol=1e-3)
    assert 0.02 < moved.up[0][:, 0].mean() < 0.055
    np.testing.assert_allclose(moved.up[0].mean(0), -moved.up[1].mean(0), atol=1e-3)
    assert np.abs(moved.up[0][:, 1]).max() < 0.01


def test_displacement_is_smoothed_over_the_nearest_cells() -> None:
    rng = np.random.default_rng(0)
    section, other = rng.random((80, 2)), rng.random((90, 2))
    raw = debiased_displacements(
        torch.from_numpy(section).float(), torch.from_numpy(other).float(), blur=0.05, reach=0.1
    )[0].numpy()
    nearest = np.linalg.norm(section[:, None] - section[None], axis=2).argsort(axis=1)[:, :15]
    found = section_displacements([section, other]).up[0]
    np.testing.assert_allclose(found, raw[nearest].mean(1), atol=1e-6)
    few = section_displacements([section[:7], other]).up[0]
    np.testing.assert_allclose(few, few[:1].repeat(7, axis=0))


def test_measured_fields_are_taken_as_they_are() -> None:
    positions, expression, _ = _sections()
    smooth = [LocalLinear(p, e, n_cells=10) for p, e in zip(positions, expression, strict=True)]
    moved = _displacements()
    forward, _ = section_paths(
        positions, expression, DEPTHS, field=smooth.__getitem__, displacements=moved, expression_shift=1.0
    )
    state, _ = forward.at(_same(forward, 1.0))
    wanted = smooth[1](positions[0] + moved.up[0]).mean - smooth[0](positions[0]).mean
    np.testing.assert_allclose((state[:, 3:] - forward.expression)[: SIZES[0]], wanted, atol=1e-5)


def test_blocks_are_parts_of_the_paths_of_all_cells() -> None:
    positions, expression, planes = _sections()
    kws = {"field": planes.__getitem__, "displacements": _displacements(), "expression_shift": 1.0}
    whole = section_paths(positions, expression, DEPTHS, **kws)
    parts = section_paths(
        positions, expression, DEPTHS, **kws, blocks=lambda k: [np.array([0, 2]), np.array([5, 3, 1])]
    )
    for every, some in zip(whole, parts, strict=True):
        assert some.sizes == (2, 3) * len(every.sizes)
        first = np.repeat(np.cumsum([0, *every.sizes[:-1]]), 5)
        cells = torch.as_tensor(first + np.tile([0, 2, 5, 3, 1], len(every.sizes)))
        for name in ("start", "displacement", "leaving", "arriving", "expression"):
            assert torch.equal(getattr(some, name), getattr(every, name)[cells])
        assert torch.equal(some.change, every.change[:, cells])
        assert torch.equal(some.gap, every.gap.repeat_interleave(2))
        assert torch.equal(some.depth, every.depth.repeat_interleave(2))


def test_paths_are_split_between_blocks() -> None:
    sizes, rng = (1,) * 50 + (1000,) * 5, np.random.default_rng(0)
    n = sum(sizes)
    shapes = [(n, 2)] * 4 + [(n, 3), (2, n, 3), (len(sizes),), (len(sizes),)]
    paths = Paths(*(torch.from_numpy(rng.normal(size=shape)) for shape in shapes), sizes)
    for n_cells, most in ((1, 1000), (500, 1000), (1500, 2500), (10**6, n)):
        parts = list(paths.split(n_cells))
        assert max(sum(part.sizes) for part in parts) <= most
        assert tuple(itertools.chain.from_iterable(part.sizes for part in parts)) == sizes
        for name, dim in (("start", 0), ("expression", 0), ("change", 1), ("depth", 0), ("gap", 0)):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts], dim=dim), getattr(paths, name))
