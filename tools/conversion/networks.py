"""A published network: which backbone of ours it is, and what it calls each entry."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Union

from mmengine.model import BaseModel
from torch import Tensor

from mmkdlayer.registry import MODELS

Rule = tuple[str, Union[str, Callable[[re.Match], str]]]


@dataclass(frozen=True)
class SourceNetwork:
    """One network of a model zoo."""

    name: str  #: the zoo's name of it
    backbone: Mapping[str, Any]  #: config of the same backbone here
    channels: int  #: C of the last feature map
    #: Substitutions that turn a key of our classifier into the zoo's, applied in order.
    rules: Sequence[Rule]

    def classifier_config(self, num_classes: int) -> dict[str, Any]:
        """Config of the whole classifier: backbone, global average pooling, linear head."""
        return {
            'type': 'mmpretrain.ImageClassifier',
            'backbone': dict(self.backbone),
            'neck': {'type': 'mmpretrain.GlobalAveragePooling'},
            'head': {
                'type': 'mmpretrain.LinearClsHead',
                'num_classes': num_classes,
                'in_channels': self.channels,
            },
        }

    def build(self, num_classes: int) -> BaseModel:
        """The classifier itself."""
        return MODELS.build(self.classifier_config(num_classes))

    def source_key(self, key: str) -> str:
        """The zoo's name of an entry of our classifier."""
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        return key


def stage_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of blocks in a stage, whose keys start with ``prefix`` and the block's index."""
    found = {match[1] for key in state if (match := re.match(re.escape(prefix) + r'(\d+)\.', key))}
    return len(found)
