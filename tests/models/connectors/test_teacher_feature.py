"""What a teacher's module returns, as the feature map that a decision is made of."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.connectors.teacher_feature import TeacherFeature

MAP = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
TOKENS = torch.cat([torch.full((2, 1, 3), -1.0), MAP.flatten(2).transpose(1, 2)], 1)


class ModelOutput(OrderedDict):
    """As Hugging Face's networks return."""


class Tower(nn.Module):
    """Has one class token, and runs a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 3))
        self.part = nn.Identity()

    def forward(self, images: Tensor) -> Any:
        return self.part(images)


def read(output: Any, **choice: Any) -> Tensor:
    """The feature that is made of an output of a tower's part, for images of 32x32."""
    connector = TeacherFeature('one', 'part', **choice)
    tower = Tower()
    connector.attach(tower)
    tower(torch.zeros(2, 3, 32, 32))
    return connector(output)


@pytest.mark.parametrize(
    ('output', 'choice'),
    [
        (MAP, {}),
        ((None, MAP), dict(index=1)),
        ([MAP], dict(index=-1)),
        (dict(a=MAP, b=None), dict(index='a')),
        (
            ModelOutput(last_hidden_state=TOKENS, pooler_output=None),
            dict(index='last_hidden_state'),
        ),
        (TOKENS, {}),
        (MAP.permute(0, 2, 3, 1), {}),  # as Swins of timm and torchvision
        ((TOKENS, (4, 4)), {}),
        (TOKENS, dict(extra_tokens=1, grid=(4, 4))),
    ],
)
def test_the_output_that_is_chosen(output: Any, choice: dict) -> None:
    assert torch.equal(read(output, **choice), MAP)


@pytest.mark.parametrize(
    ('output', 'choice', 'words'),
    [
        (MAP, dict(index=0), 'returns one tensor, but .*teacher_index is 0. Take'),
        ((MAP,), {}, 'returns a tuple of 1, but .*teacher_index is None. Set .* to one of 0'),
        ((MAP, MAP), dict(index=2), 'teacher_index is 2. Set .* to one of 0, 1'),
        ((MAP,), dict(index=-2), 'teacher_index is -2'),
        (dict(x=MAP), {}, "returns a dict of 1, .*to one of 'x'"),
        (ModelOutput(last_hidden_state=TOKENS), {}, "ModelOutput of 1.*'last_hidden_state'"),
        (TOKENS[:, 0], {}, r'returns \(2, 3\).*such as a class token.*the block before it'),
        (None, {}, 'returns a NoneType'),
        (TOKENS[:, :12], {}, 'returns 12 tokens of images 32x32.*teacher_grid'),
        (TOKENS, dict(grid=(3, 4)), 'returns 17 tokens.*grid 3x4.*which does not fit'),
    ],
)
def test_what_has_no_positions_is_refused(output: Any, choice: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=rf'(?s)kd_layers\.one\.teacher: .*{words}'):
        read(output, **choice)
