from __future__ import annotations

import pytest
import torch
from torch import Tensor

from isost.nn._sparse import Graph, Links, row_dots, weighted_sum


def random_table(n: int, k: int, generator: torch.Generator) -> Tensor:
    return torch.stack([torch.randperm(n, generator=generator)[:k] for _ in range(n)])


def dense(graph: Graph) -> Tensor:
    links = graph.links
    full = torch.zeros(links.n_rows, links.n_columns, dtype=graph.weights.dtype)
    return full.index_put((links.rows, links.columns), graph.weights, accumulate=True)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def graph(generator: torch.Generator) -> Graph:
    """Rows of different lengths, one of them empty."""
    full = torch.rand(12, 12, dtype=torch.float64, generator=generator)
    full[full < 0.6] = 0
    full[3] = 0
    full.fill_diagonal_(0)
    rows, columns = full.nonzero(as_tuple=True)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(rows, minlength=12).cumsum(0)])
    return Graph(Links(columns, offsets, 12), full[rows, columns])


def test_weighted_sum_is_a_matrix_product_and_so_is_its_gradient(graph: Graph, generator: torch.Generator) -> None:
    x = torch.rand(12, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    out = weighted_sum(graph.weights, x, graph.links)
    torch.testing.assert_close(out, dense(graph) @ x)
    grad = torch.rand(12, 4, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(torch.autograd.grad(out, x, grad)[0], dense(graph).T @ grad)


def test_row_dots_are_dot_products(generator: torch.Generator) -> None:
    left, right = torch.rand(2, 9, 4, dtype=torch.float64, generator=generator)
    table = random_table(9, 3, generator)
    dots = row_dots(left, right, Links.from_table(table)).view(9, 3)
    torch.testing.assert_close(dots, (left @ right.T).gather(1, table))


def test_gradients_of_first_and_second_order_equal_finite_differences(generator: torch.Generator) -> None:
    links = Links.from_table(random_table(6, 3, generator))
    weights = torch.rand(18, dtype=torch.float64, generator=generator, requires_grad=True)
    left = torch.rand(6, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    right = torch.rand(6, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    for function, inputs in ((weighted_sum, (weights, right)), (row_dots, (left, right))):
        assert torch.autograd.gradcheck(lambda a, b, f=function: f(a, b, links), inputs)
        assert torch.autograd.gradgradcheck(lambda a, b, f=function: f(a, b, links), inputs)


def test_convolution_equals_its_formula(graph: Graph, generator: torch.Generator) -> None:
    x = torch.rand(12, 4, dtype=torch.float64, generator=generator)
    looped = dense(graph) + 2 * torch.eye(12, dtype=torch.float64)
    root = looped.sum(1).rsqrt().diag()
    torch.testing.assert_close(graph.convolve(x), root @ looped @ root @ x)


@pytest.mark.parametrize("kept", [[0, 2, 3, 7, 11], [5], list(range(12))])
@pytest.mark.parametrize("device_path", ["_pooled_power_scipy", "_pooled_power_torch"])
def test_pooled_power_is_the_square_without_diagonal(graph: Graph, kept: list[int], device_path: str) -> None:
    square = torch.linalg.matrix_power(dense(graph) + torch.eye(12, dtype=torch.float64), 2).fill_diagonal_(0)
    power = getattr(graph, device_path)(torch.tensor(kept))
    torch.testing.assert_close(dense(power), square[kept][:, kept])
    assert len(power.weights) == int((square[kept][:, kept] != 0).sum())
    again = getattr(power, device_path)(torch.arange(len(kept)))
    eye = torch.eye(len(kept), dtype=torch.float64)
    torch.testing.assert_close(dense(again), torch.linalg.matrix_power(dense(power) + eye, 2).fill_diagonal_(0))


def test_dots_of_mixed_precision_are_those_of_the_finer_one() -> None:
    links = Links.from_table(torch.tensor([[1, 2], [2, 0], [0, 1]]))
    left, right = torch.rand(3, 4), torch.rand(3, 4).to(torch.bfloat16)
    assert torch.equal(row_dots(left, right, links), row_dots(left, right.float(), links))
