from __future__ import annotations

import numpy as np
import pytest

from isost.datasets._shape import CAVITY, FARTHEST, N_ANGLES, N_ROWS, OUTLINE, Shape, Tube

BALL = Tube(
    centre=lambda u: (np.zeros_like(u), np.zeros_like(u)),
    angle=np.zeros_like,
    reach=lambda phi, u: np.ones_like(u),
    middle=0.0,
    half_length=1.0,
)


@pytest.fixture
def shape() -> Shape:
    return Shape(radius=250.0, depth=360.0)


def around(shape: Shape, n: int, *, rng: np.random.Generator) -> np.ndarray:
    low, high = [-1.5, -1.5, -0.6], [1.8, 1.5, 1.5]
    return rng.uniform(low, high, (n, 3)) * [shape.radius, shape.radius, shape.depth]


def test_level_of_a_ball_is_its_radius():
    xyz = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(BALL.level(*xyz.T), np.linalg.norm(xyz, axis=1))


@pytest.mark.parametrize("tube", [OUTLINE, CAVITY, BALL])
def test_surface_lies_where_the_level_is_one(tube):
    surface = tube.surface()
    assert surface.shape == (N_ROWS * N_ANGLES, 3)
    np.testing.assert_allclose(tube.level(*surface.T), 1.0)


def test_cavity_lies_within_the_outline():
    assert OUTLINE.level(*CAVITY.surface().T).max() < 0.97


@pytest.mark.parametrize("u", [-0.3, 0.0, 0.42, 1.0])
def test_bounds_hold_every_outline(shape, u):
    low, high = shape.bounds(u * shape.depth)
    phi = np.linspace(0, 2 * np.pi, 400)
    here = np.full_like(phi, u)
    reach = OUTLINE.reach(phi, here)
    assert reach.max() < FARTHEST
    cx, cy = OUTLINE.centre(here)
    xy = np.column_stack([cx + reach * np.cos(phi), cy + reach * np.sin(phi)]) * shape.radius
    assert (xy > low).all()
    assert (xy < high).all()


def test_sign_of_the_surface_distance_agrees_with_inside(shape):
    xyz = around(shape, 20_000, rng=np.random.default_rng(1))
    inside = shape.inside(xyz)
    assert 0.05 < inside.mean() < 0.6
    np.testing.assert_array_equal(shape.surface_distance(xyz) < 0, inside)


def test_surface_distance_is_the_one_to_a_far_denser_surface(shape):
    rng = np.random.default_rng(2)
    xyz = around(shape, 30, rng=rng)
    scale = np.array([shape.radius, shape.radius, shape.depth])
    slow = np.full(len(xyz), np.inf)
    for tube in (OUTLINE, CAVITY):
        for i, point in enumerate(xyz):
            slow[i] = min(slow[i], _closest(tube, point, scale))
    np.testing.assert_allclose(np.abs(shape.surface_distance(xyz)), slow, atol=0.25)


def _closest(tube: Tube, point: np.ndarray, scale: np.ndarray) -> float:
    """Distance to the surface on a grid of latitude and longitude, made finer around the nearest node."""
    t, phi, span_t, span_phi = 0.0, np.pi, np.pi / 2, np.pi
    best = np.inf
    for _ in range(5):
        ts, phis = np.meshgrid(
            np.linspace(t - span_t, t + span_t, 161), np.linspace(phi - span_phi, phi + span_phi, 161)
        )
        u = tube.middle + tube.half_length * np.sin(ts)
        r = np.cos(ts) * tube.reach(phis, u)
        (cx, cy), turned = tube.centre(u), phis + tube.angle(u)
        places = np.stack([cx + r * np.cos(turned), cy + r * np.sin(turned), u], axis=-1) * scale
        gaps = np.linalg.norm(places - point, axis=-1)
        nearest = np.unravel_index(gaps.argmin(), gaps.shape)
        t, phi, best = ts[nearest], phis[nearest], gaps.min()
        span_t, span_phi = span_t / 20, span_phi / 20
    return float(best)


def test_relative_depth_runs_from_the_cavity_to_the_outline(shape):
    scale = [shape.radius, shape.radius, shape.depth]
    np.testing.assert_allclose(shape.relative_depth(CAVITY.surface() * scale), 0.0, atol=1e-9)
    np.testing.assert_allclose(shape.relative_depth(OUTLINE.surface() * scale), 1.0, atol=1e-9)


def test_outline_and_cavity_change_along_the_depth(shape):
    def area(z: float) -> float:
        low, high = shape.bounds(z)
        xy = np.random.default_rng(3).uniform(low, high, (20_000, 2))
        return float(shape.inside(np.column_stack([xy, np.full(len(xy), z)])).mean())

    areas = [area(z) for z in np.linspace(0, shape.depth, 5)]
    assert max(areas) > 1.3 * min(areas)
    assert area(-shape.depth) == 0.0


def test_body_coordinates_follow_the_bend(shape):
    axis_u = np.linspace(0, 1, 5)
    cx, cy = OUTLINE.centre(axis_u)
    on_axis = np.column_stack([cx * shape.radius, cy * shape.radius, axis_u * shape.depth])
    body = shape.body(on_axis)
    np.testing.assert_allclose(body[:, :2], 0.0, atol=1e-12)
    np.testing.assert_allclose(body[:, 2], np.linspace(-1, 1, 5))
