"""ViTKD against its formula, token by token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import ViTKDLoss

IMAGES, SIDE, STUDENT, TEACHER = 2, 3, 2, 3
NAMES = [f'{place}_{role}' for role in 'ST' for place in ('first', 'second', 'last')]


def make(dtype: torch.dtype = torch.float64, **arguments) -> tuple[ViTKDLoss, dict[str, Tensor]]:
    """A loss whose teacher has a distillation token, and tokens."""
    torch.manual_seed(0)
    loss = ViTKDLoss(STUDENT, TEACHER, teacher_extra_tokens=2, **arguments).double()
    nn.init.normal_(loss.mask_token)
    tokens = {
        name: torch.randn(
            IMAGES,
            SIDE**2 + (1 if name.endswith('S') else 2),
            STUDENT if name.endswith('S') else TEACHER,
            dtype=torch.float64,
        ).to(dtype)
        for name in NAMES
    }
    return loss, tokens


def linear(x: list[float], layer: nn.Linear) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x)) + b
        for row, b in zip(layer.weight.tolist(), layer.bias.tolist())
    ]


def convolve(grid: dict, conv: nn.Conv2d) -> dict:
    """A grid {(row, column): channels} through a 3x3 convolution."""
    weight, bias = conv.weight.tolist(), conv.bias.tolist()
    return {
        (y, x): [
            bias[o]
            + sum(
                weight[o][i][dy + 1][dx + 1] * value
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                for i, value in enumerate(grid.get((y + dy, x + dx), []))
            )
            for o in range(len(weight))
        ]
        for y, x in grid
    }


def by_hand(loss: ViTKDLoss, tokens: dict[str, Tensor], masked: list[set[int]]) -> float:
    mimic = generation = 0.0
    lists = {name: x[:, 1 if name.endswith('S') else 2 :].tolist() for name, x in tokens.items()}
    for n in range(IMAGES):
        for place, layer in (('first', loss.align[0]), ('second', loss.align[1])):
            for s, t in zip(lists[f'{place}_S'][n], lists[f'{place}_T'][n]):
                mimic += sum((a - b) ** 2 for a, b in zip(linear(s, layer), t))
        grid = {
            divmod(i, SIDE): loss.mask_token.tolist()
            if i in masked[n]
            else linear(s, loss.align[2])
            for i, s in enumerate(lists['last_S'][n])
        }
        grid = convolve(grid, loss.generate[0])
        grid = {place: [max(v, 0.0) for v in x] for place, x in grid.items()}
        grid = convolve(grid, loss.generate[2])
        for i in masked[n]:
            t = lists['last_T'][n][i]
            generation += sum((a - b) ** 2 for a, b in zip(grid[divmod(i, SIDE)], t))
    return (loss.mimic_weight * mimic + loss.generation_weight / loss.masked * generation) / IMAGES


@pytest.mark.parametrize('masked', [0.5, 0.2, 1.0])
def test_formula(masked: float) -> None:
    loss, tokens = make(mimic_weight=0.3, generation_weight=0.7, masked=masked)
    torch.manual_seed(1)
    order = torch.rand(IMAGES, SIDE**2).argsort(1).tolist()
    kept = int(SIDE**2 * (1 - masked))
    places = [set(row[kept:]) for row in order]
    assert all(len(row) == SIDE**2 - kept for row in places)
    torch.manual_seed(1)
    found = loss(**{name: x.requires_grad_() for name, x in tokens.items()})
    assert found.item() == pytest.approx(by_hand(loss, tokens, places), rel=1e-12)
    found.backward()
    assert masked == 1 or all(p.grad.any() for p in loss.parameters())
    for name, x in tokens.items():
        reached = x.grad is not None and bool(x.grad.any())
        assert reached == (name.endswith('S') and (masked < 1 or name != 'last_S'))
        assert x.grad is None or not x.grad[:, 0].any()  # the class token


def test_equal_channels_need_no_alignment() -> None:
    loss = ViTKDLoss(3, 3)
    assert not list(loss.align.parameters())


def test_half_precision() -> None:
    loss, tokens = make(torch.float16, masked=1.0)
    value = loss.float()(**tokens)
    exact = loss.double()(**{name: x.double() for name, x in tokens.items()})
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = loss.float()(**tokens)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, value, rtol=2e-2, atol=0)


def test_errors() -> None:
    loss, tokens = make()
    with pytest.raises(ConfigError, match='masked must be above 0'):
        ViTKDLoss(2, 3, masked=0)
    with pytest.raises(ConfigError, match=r'\(N, L, 2\) of the student, but got \(2, 11, 3\)'):
        loss(**{**tokens, 'first_S': tokens['first_T']})
    with pytest.raises(ConfigError, match='got 9 and 8 positions .* Set student_extra_tokens'):
        loss(**{**tokens, 'last_T': tokens['last_T'][:, 1:]})
