"""The name of a type as configs give it: a class, or a string with or without scope or module."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType
from typing import Any


def type_name(value: Any) -> str:
    """The bare name of what stands as ``type=`` in a config, such as 'PreemptionHook'; empty for None.

    It may be a class or function (pure-Python configs, also before mmengine has imported it), or a
    name alone, with its scope ('mmkdlayer.PreemptionHook') or its module
    ('mmkdlayer.engine.PreemptionHook').
    """
    if value is None:
        return ''
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return value.__name__
    return str(value).rsplit('.', 1)[-1]
