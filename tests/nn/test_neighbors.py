from __future__ import annotations

import numpy as np
import pytest
import torch

from isost.nn import _neighbors, nearest_neighbors


def brute_force(position: torch.Tensor, n_neighbors: int, sizes: list[int]) -> np.ndarray:
    points = position.numpy().astype(np.float64)
    table, start = [], 0
    for size in sizes:
        block = points[start : start + size]
        distance = ((block[:, None] - block[None]) ** 2).sum(-1)
        np.fill_diagonal(distance, np.inf)
        table.append(start + np.argsort(distance, axis=1)[:, :n_neighbors])
        start += size
    return np.concatenate(table)


@pytest.fixture(params=["tree", "grid"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both searches: that of the CPU, and that of GPUs run on the CPU."""
    if request.param == "grid":
        monkeypatch.setattr(_neighbors, "_tree_search", _neighbors._grid_search)
        monkeypatch.setattr(_neighbors, "_DISTANCES_AT_ONCE", 1000)
    return request.param


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("sizes", [[60], [6, 30, 24]])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_equals_brute_force_inside_each_block(sizes: list[int], offset: float) -> None:
    generator = torch.Generator().manual_seed(len(sizes))
    position = torch.rand(60, 3, dtype=torch.float64, generator=generator) + offset
    table = nearest_neighbors(position, 5, sizes=sizes)
    assert table.dtype == torch.int64
    np.testing.assert_array_equal(table.numpy(), brute_force(position, 5, sizes))


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("shape", ["frame", "cloud", "line", "clusters", "far point"])
def test_cells_of_a_grid_lose_no_neighbour(shape: str, offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_neighbors, "_DISTANCES_AT_ONCE", 100_000)
    position = torch.rand(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if shape in ("frame", "line"):
        position[:, 2] = 0.5
    if shape == "line":
        position[:, 1] = 3.0
    if shape == "clusters":
        position[500:] = 0.02 * position[500:] + (torch.arange(1500) % 5)[:, None]
    if shape == "far point":
        position[7] = 40.0
    table = _neighbors._grid_search(position + offset, 5)
    np.testing.assert_array_equal(table.numpy(), brute_force(position + offset, 5, [2000]))


def test_rows_that_all_lie_alone_find_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_neighbors, "_DISTANCES_AT_ONCE", 1)  # each row for itself, so the far one too
    position = torch.rand(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    position[7], position[:, 2] = 2.0, 0.5
    np.testing.assert_array_equal(_neighbors._grid_search(position, 5).numpy(), brute_force(position, 5, [1000]))


@pytest.mark.usefixtures("search")
def test_float32_coordinates_far_from_the_origin_are_taken_as_they_are() -> None:
    # At 1e6 float32 knows sixteenths: steps of a half are exact, and |a|² + |b|² − 2ab would lose them all.
    generator = torch.Generator().manual_seed(0)
    steps = torch.randperm(100, generator=generator).to(torch.float32) ** 2 / 2
    position = torch.stack([1e6 + steps, torch.full((100,), 1e6), torch.zeros(100)], dim=1)
    table = nearest_neighbors(position, 3)
    np.testing.assert_array_equal(table.numpy(), brute_force(position, 3, [100]))


@pytest.mark.usefixtures("search")
def test_no_point_is_its_own_neighbour_even_among_duplicates() -> None:
    position = torch.cat([torch.zeros(20, 3), torch.ones(3, 3), torch.full((9, 3), 5.0)])
    table = nearest_neighbors(position, 4)
    assert not (table == torch.arange(32).unsqueeze(1)).any()
    assert all(len(set(row)) == 4 for row in table.tolist())
    assert (table[:20] < 20).all()
    assert (table[23:] >= 23).all()


def test_blocks_of_the_least_size_are_complete_graphs() -> None:
    table = nearest_neighbors(torch.rand(12, 3, generator=torch.Generator().manual_seed(0)), 5, sizes=[6, 6])
    for row, neighbors in enumerate(table.tolist()):
        first = row // 6 * 6
        assert sorted([row, *neighbors]) == list(range(first, first + 6))


def test_no_gradient_flows_through_the_choice() -> None:
    position = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert not nearest_neighbors(position, 5).requires_grad


def test_block_too_small_is_named() -> None:
    with pytest.raises(ValueError, match=r"block 1 has 5 points.*n_neighbors=4"):
        nearest_neighbors(torch.zeros(15, 3), 5, sizes=[10, 5])


def test_sizes_must_cover_the_points() -> None:
    with pytest.raises(ValueError, match="sizes sum to 14, but there are 15"):
        nearest_neighbors(torch.zeros(15, 3), 5, sizes=[7, 7])


def test_at_least_one_neighbour() -> None:
    with pytest.raises(ValueError, match="n_neighbors must be at least 1"):
        nearest_neighbors(torch.zeros(15, 3), 0)
