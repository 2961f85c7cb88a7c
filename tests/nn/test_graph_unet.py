from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isost.nn import GraphUNet
from isost.nn._sparse import Graph

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning"),
]

Cloud = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def _own_random_state() -> None:
    with torch.random.fork_rng():
        yield


def network(depth: int = 2, pool_ratio: float = 0.5) -> GraphUNet:
    torch.manual_seed(depth)
    net = GraphUNet(6, 8, 4, depth=depth, pool_ratio=pool_ratio).double()
    for convolution in [*net.down, *net.up]:
        torch.nn.init.normal_(convolution.bias)
    return net


def reference(net: GraphUNet) -> torch.nn.Module:
    from torch_geometric.nn import GraphUNet as Reference

    out = Reference(6, 8, 4, net.depth, pool_ratios=net.pools[0].ratio, sum_res=True, act=torch.tanh).double()
    names = {
        name.replace("down.", "down_convs.")
        .replace("up.", "up_convs.")
        .replace("linear", "lin")
        .replace("weight", "select.weight" if name.startswith("pools") else "weight"): value
        for name, value in net.state_dict().items()
    }
    out.load_state_dict(names)
    return out


def features(position: Tensor, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    more = torch.randn(len(position), 3, dtype=torch.float64, generator=generator)
    return torch.cat([position, more], dim=1)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("sizes", [[61], [40, 7, 22]])
@pytest.mark.parametrize("pool_ratio", [0.5, 0.8])
def test_equals_pyg(
    cloud: Cloud, edge_index: Callable[[Tensor], Tensor], depth: int, sizes: list[int], pool_ratio: float
) -> None:
    position, table = cloud(*sizes)
    x = features(position).requires_grad_()
    net = network(depth, pool_ratio)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    ours, theirs = net(x, table, sizes=sizes), reference(net)(x, edge_index(table), batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    weights = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_of_equal_scores_each_block_keeps_the_first() -> None:
    # torch.sort, and with it PyG, leaves open which; so a block's company would decide.
    pool = network().pools[0]
    x = torch.full((51, 8), 3.0, dtype=torch.float64)
    _, kept, n_kept = pool(x, [30, 21])
    assert n_kept == [15, 11]
    assert kept.tolist() == [*range(15), *range(30, 41)]


@pytest.mark.parametrize("depth", [2, 3])
def test_blocks_together_give_what_each_gives_alone(cloud: Cloud, depth: int) -> None:
    sizes = [40, 6, 23]
    position, table = cloud(*sizes)
    x, net = features(position), network(depth)
    together = net(x, table, sizes=sizes).split(sizes)
    start = 0
    for block, size in zip(together, sizes, strict=True):
        own = slice(start, start + size)
        torch.testing.assert_close(block, net(x[own], table[own] - start), rtol=1e-12, atol=1e-13)
        start += size


def test_path_of_other_devices_gives_the_same(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    position, table = cloud(40, 25)
    x, net = features(position), network(3)
    on_cpu = net(x, table, sizes=[40, 25])
    monkeypatch.setattr(Graph, "_pooled_power_scipy", Graph._pooled_power_torch)
    torch.testing.assert_close(net(x, table, sizes=[40, 25]), on_cpu, rtol=1e-12, atol=1e-13)


def test_permuted_points_give_permuted_values(cloud: Cloud) -> None:
    position, table = cloud(50)
    x, net = features(position), network()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(x[order], order.argsort()[table][order]), net(x, table)[order])


def test_gradients_equal_finite_differences(cloud: Cloud) -> None:
    position, table = cloud(9, n_neighbors=3)
    net = network()
    parameters = dict(net.named_parameters())
    assert torch.autograd.gradcheck(
        lambda x, *values: torch.func.functional_call(net, dict(zip(parameters, values, strict=True)), (x, table)),
        (features(position).requires_grad_(), *parameters.values()),
        fast_mode=True,
    )


def test_depth_and_ratio_are_checked() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1"):
        GraphUNet(6, 8, 4, depth=0)
    with pytest.raises(ValueError, match="pool_ratio must lie between 0 and 1"):
        GraphUNet(6, 8, 4, pool_ratio=1.0)
