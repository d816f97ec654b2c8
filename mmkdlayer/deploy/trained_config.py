"""Compares a config with the one that a checkpoint was trained with."""

from __future__ import annotations

import ast
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmkdlayer.errors import ConfigError, KDLayerError
from mmkdlayer.pipelines import find_pipeline
from mmkdlayer.type_names import type_name

from .example_images import test_loader
from .student_config import decision_configs, student_model_config

#: Keys that change nothing of what a trained student answers.
NEUTRAL = {
    *('init_cfg', 'pretrained', 'loss', 'train_cfg', 'batch_augments', 'with_cp', 'frozen_stages'),
    *('norm_eval', 'backend_args', 'file_client_args', 'cal_acc', 'topk', '_scope_', '_delete_'),
}
#: What a text that is no such config raises; the last two where it is nested too deep.
UNREADABLE = (
    *(ValueError, SyntaxError, KeyError, TypeError, AttributeError),
    *(RecursionError, MemoryError),
)
#: Names of classes that mmengine's registry finds without importing anything but a host.
OF_HOSTS = r'((mmkdlayer|mmpretrain|mmcls|mmrazor|mmengine)(\.\w+)*\.)?\w+'
_NOTHING = object()


def check_trained_config(
    cfg: Config, meta: Mapping[str, Any], checkpoint: str | os.PathLike, refuse: bool = True
) -> None:
    """Refuse a config that makes another student of a checkpoint than the one that was trained.

    mmengine stores in each checkpoint the config of its training. What counts is the student (the
    network, its KD layers with their alpha and places, the data preprocessor) and the test pipeline;
    paths, data sets and all that is for training alone may differ.

    Args:
        cfg: The config that is given, with the options of the command line.
        meta: The checkpoint's. Without a config in it there is nothing to compare.
        checkpoint: For the message.
        refuse: Warn instead, if False.

    Raises:
        ConfigError: They differ; each key is named with both values.
    """
    text = meta.get('cfg')
    if not isinstance(text, str) or not text:
        return
    try:
        recorded = Config(parse_config(text))
        refuse_foreign_names(recorded, cfg)
        trained = student_facts(recorded)
    except (KDLayerError, *UNREADABLE) as error:
        print_log(
            f'Checkpoint {checkpoint}: the config that it was trained with cannot be compared '
            f'({type(error).__name__}: {str(error)[:200]}).',
            logger='current',
            level=logging.WARNING,
        )
        return
    differences = list(find_differences(student_facts(cfg), trained))
    if not differences:
        return
    more = f' and {len(differences) - 8} more' if len(differences) > 8 else ''
    words = (
        f'Checkpoint {checkpoint} was trained with another config, which makes another student of its '
        f'weights: {"; ".join(differences[:8])}{more}. '
    )
    if refuse:
        raise ConfigError(
            f'{words}Give the config of the training, which is in its work dir, with the same '
            '--cfg-options; or, to go by this config all the same, add --config-as-given.'
        )
    print_log(f'{words}This config is used.', logger='current', level=logging.WARNING)


def student_facts(cfg: Config) -> dict[str, Any]:
    """What of a config decides what its student answers."""
    model = student_model_config(cfg)
    for layer in (model.get('kd_layers') or {}).values():
        if 'type' not in (layer.get('layer') or {}):  # ours, whose default that is
            layer.setdefault('alpha', 1.0)
    return dict(model=model, test_pipeline=find_pipeline(test_loader(cfg)))


def refuse_foreign_names(recorded: Config, cfg: Config) -> None:
    """Refuse a record that would import or run what neither the given config nor a host has.

    Raises:
        ValueError: It names such a class or config.
    """
    architecture = recorded.model.get('architecture') or {}
    decisions = decision_configs(recorded.model).values()
    path = str(architecture.get('cfg_path') or '')
    known = set(_type_names(cfg.model))
    for name in (architecture.get('type'), *(decision.get('type') for decision in decisions)):
        if not re.fullmatch(OF_HOSTS, str(name)) and str(name) not in known:
            raise ValueError(f'it names {name}, which this config does not')
    if path and (not re.fullmatch(r'\w+::[\w./-]+', path) or '..' in path):
        raise ValueError(f'it names the config {path}, which is in no package')


def _type_names(value: Any) -> Iterator[str]:
    """Each ``type`` and ``base`` in a config, classes by their full names."""
    if isinstance(value, Mapping):
        for key in ('type', 'base'):
            kind = value.get(key)
            yield str(kind)
            yield f'{getattr(kind, "__module__", "")}.{getattr(kind, "__qualname__", "")}'
        value = list(value.values())
    for item in value if _is_list(value) else ():
        yield from _type_names(item)


def find_differences(given: Any, trained: Any, name: str = '') -> Iterator[str]:
    """A phrase for each value that is not the same, by its dotted name."""
    if isinstance(given, Mapping) and isinstance(trained, Mapping):
        for key in sorted({*given, *trained} - NEUTRAL, key=str):
            pair = given.get(key, _NOTHING), trained.get(key, _NOTHING)
            if None in pair and _NOTHING in pair:
                continue
            yield from find_differences(*pair, f'{name}.{key}' if name else str(key))
    elif _is_list(given) and _is_list(trained) and len(given) == len(trained):
        for index, pair in enumerate(zip(given, trained)):
            yield from find_differences(*pair, f'{name}.{index}')
    else:
        if name.endswith('.type') or name.endswith('.base'):
            given, trained = type_name(given), type_name(trained)
        same = list(given) == list(trained) if _is_list(given) and _is_list(trained) else None
        if not (given == trained if same is None else same):
            yield f'{name} is {_show(given)} here and was {_show(trained)}'


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _show(value: Any) -> str:
    text = 'not there' if value is _NOTHING else repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


def parse_config(text: str) -> dict[str, Any]:
    """Read a config as mmengine writes it into checkpoints; nothing of it is run.

    Raises:
        ValueError: It is more than assignments of plain values and dicts.
        SyntaxError: It is no Python.
    """
    found = {}
    for line in ast.parse(text).body:
        if not (
            isinstance(line, ast.Assign)
            and len(line.targets) == 1
            and isinstance(line.targets[0], ast.Name)
        ):
            raise ValueError(f'line {line.lineno} is no assignment')
        found[line.targets[0].id] = _value(line.value)
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        # dict(a=1), or dict({'a b': 1}) where a key is no identifier
        found = {key: value for item in node.args for key, value in _value(item).items()}
        return {**found, **{str(item.arg): _value(item.value) for item in node.keywords}}
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values)))
    if isinstance(node, (ast.List, ast.Tuple)):
        return (list if isinstance(node, ast.List) else tuple)(map(_value, node.elts))
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    return ast.literal_eval(node)
