"""The name of a type, however a config gives it."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.config.lazy import LazyObject

from mmkdlayer.engine import PreemptionHook
from mmkdlayer.type_names import type_name


@pytest.mark.parametrize(
    'value',
    [
        PreemptionHook,
        'PreemptionHook',
        'mmkdlayer.PreemptionHook',
        'mmkdlayer.engine.hooks.preemption_hook.PreemptionHook',
        LazyObject('mmkdlayer.engine', 'PreemptionHook'),
        LazyObject('mmkdlayer.engine').PreemptionHook,
    ],
)
def test_names_the_class(value: Any) -> None:
    assert type_name(value) == 'PreemptionHook'


def test_names_a_function_and_nothing() -> None:
    assert type_name(test_names_the_class) == 'test_names_the_class'
    assert type_name(len) == 'len'
    assert type_name(None) == ''
