"""Which output of a teacher's module is read is checked before anything is fitted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.errors import ConfigError

FEATURE = torch.zeros(2, 3, 4, 4)


def read(recorded: Any, **choice: Any) -> Any:
    """What a stream takes of a record, by mmrazor's choice of one of several outputs."""

    def get_record(recorder: str, data_idx: Any = None) -> Any:
        return recorded if data_idx is None else recorded[data_idx]

    stream: Any = SimpleNamespace(
        algorithm=SimpleNamespace(distiller=SimpleNamespace(get_record=get_record))
    )
    layer: Any = SimpleNamespace(key='kd_layers.one', feature=dict(recorder='r', **choice))
    return FeatureStream._feature(stream, layer)


@pytest.mark.parametrize(
    ('recorded', 'choice'),
    [(FEATURE, {}), ((None, FEATURE), dict(data_idx=1)), ([FEATURE], dict(data_idx=-1))],
)
def test_the_output_that_is_chosen(recorded, choice):
    assert read(recorded, **choice) is FEATURE


@pytest.mark.parametrize(
    ('recorded', 'choice', 'words'),
    [
        (FEATURE, dict(data_idx=0), 'returns one Tensor, but teacher_index is 0. Take'),
        ((FEATURE,), {}, 'returns 1 outputs, but teacher_index is None. Set'),
        (
            (FEATURE, FEATURE),
            dict(data_idx=2),
            'teacher_index is 2. Set teacher_index to one of 0 to 1',
        ),
        ((FEATURE,), dict(data_idx=-2), 'teacher_index is -2'),
        (dict(x=FEATURE), {}, 'returns a dict. Name another'),
    ],
)
def test_outputs_that_are_not_there(recorded, choice, words):
    with pytest.raises(ConfigError, match=rf'kd_layers\.one\.teacher: .*{words}'):
        read(recorded, **choice)
