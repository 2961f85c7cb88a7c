from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isost.nn import GraphTransformer

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

Cloud = Callable[..., tuple[Tensor, Tensor]]


def reference(net: GraphTransformer, x: Tensor, edge_index: Tensor) -> Tensor:
    from torch_geometric.nn import TransformerConv

    def convolution(layer: torch.nn.Module, in_dim: int) -> TransformerConv:
        out = TransformerConv(in_dim, layer.head_dim, heads=layer.n_heads, concat=not layer.average_heads).double()
        out.load_state_dict({f"lin_{name}": value for name, value in layer.state_dict().items()})
        return out

    first, second, last = (convolution(layer, layer.query.in_features) for layer in net.layers)
    hidden = torch.tanh(first(x, edge_index))
    hidden = torch.tanh(second(hidden, edge_index) + hidden)
    return last(hidden, edge_index)


def network(n_heads: int, out_dim: int = 3) -> GraphTransformer:
    torch.manual_seed(0)
    return GraphTransformer(3, 12, out_dim, n_heads=n_heads).double()


@pytest.fixture(autouse=True)
def _own_random_state() -> None:
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("n_heads", [1, 2, 3])
@pytest.mark.parametrize("out_dim", [2, 3])
def test_equals_pyg(cloud: Cloud, edge_index: Callable[[Tensor], Tensor], n_heads: int, out_dim: int) -> None:
    x, table = cloud(40, 25)
    x.requires_grad_()
    net = network(n_heads, out_dim)
    ours, theirs = net(x, table), reference(net, x, edge_index(table))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    weights = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_heads", [1, 2])
def test_gradients_equal_finite_differences(cloud: Cloud, n_heads: int) -> None:
    x, table = cloud(7, n_neighbors=3)
    net = network(n_heads)
    parameters = dict(net.named_parameters())
    assert torch.autograd.gradcheck(
        lambda x, *values: torch.func.functional_call(net, dict(zip(parameters, values, strict=True)), (x, table)),
        (x.requires_grad_(), *parameters.values()),
        fast_mode=True,
    )


def test_permuted_points_give_permuted_values(cloud: Cloud) -> None:
    x, table = cloud(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    net = network(2)
    torch.testing.assert_close(net(x[order], order.argsort()[table][order]), net(x, table)[order])


def test_heads_keep_the_widths() -> None:
    assert [layer.query.out_features for layer in network(3).layers] == [12, 12, 9]
    assert [layer.skip.out_features for layer in network(3).layers] == [12, 12, 3]


@pytest.mark.parametrize("n_heads", [0, 5])
def test_heads_must_divide_the_width(n_heads: int) -> None:
    with pytest.raises(ValueError, match=f"hidden_dim=12 does not split into n_heads={n_heads}"):
        GraphTransformer(3, 12, 3, n_heads=n_heads)
