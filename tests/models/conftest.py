"""Small networks to put KD layers into."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdlayer.models import attach_kd_layers
from mmkdlayer.models.connectors import memory_efficient


class Network(BaseModule):
    """Two stages and a head; what a stage returns, and how often it runs, can be chosen."""

    def __init__(self, returns: Any = None, runs: int = 1) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.wrapper = Wrapper(self.stage2, returns) if returns else self.stage2
        if returns:
            del self.stage2
        self.unused = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)
        self.runs = runs

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(x)
        for _ in range(self.runs):
            x = self.wrapper(x)
            if not isinstance(x, Tensor):
                x = x['x'] if isinstance(x, dict) else x[-1]
        return self.head(x.mean((2, 3)))


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module, returns: Any) -> None:
        super().__init__()
        self.inner, self.returns = inner, returns

    def forward(self, x: Tensor) -> Any:
        return self.returns(x, self.inner(x))


def plain() -> Network:
    """A network in which no module has two names."""
    network = Plain()
    del network.wrapper
    return network


class Plain(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage2(self.stage1(x)).mean((2, 3)))


def attached(seed: int = 0, **layer: Any) -> Plain:
    """A network with two KD layers."""
    torch.manual_seed(seed)
    network = plain()
    attach_kd_layers(
        network,
        dict(
            early=dict(module='stage1', in_channels=4, num_templates=6, layer=layer),
            late=dict(module='stage2', in_channels=4, num_templates=5, alpha=0.5, layer=layer),
        ),
    )
    return network


X = torch.randn(3, 3, 7, 6, generator=torch.Generator().manual_seed(1))


def by_hand(network: Plain, x: Tensor) -> Tensor:
    """What the forward pass should be, without hooks."""
    layers = network.kd_layers
    for block in (*network.stage1._modules.values(), layers['early']):
        x = block(x)
    for block in (*network.stage2._modules.values(), layers['late']):
        x = block(x)
    return network.head(x.mean((2, 3)))


def attach(network: nn.Module, **modules: str) -> None:
    """Attach KD layers after modules."""
    attach_kd_layers(
        network,
        {
            name: dict(module=module, in_channels=4, num_templates=6)
            for name, module in modules.items()
        },
    )


@pytest.fixture(autouse=True)
def memory_efficient_in_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory-efficient way is taken for maps of any size, where the plain one would be faster."""
    monkeypatch.setattr(memory_efficient, 'MIN_SCORES', 0)


@pytest.fixture
def nets() -> SimpleNamespace:
    """The networks, what is done to them, and images ``x`` for them."""
    return SimpleNamespace(
        Network=Network, plain=plain, attached=attached, attach=attach, by_hand=by_hand, x=X
    )
