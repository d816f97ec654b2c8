"""Compares a config with the one that a checkpoint was trained with."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.kd_layer_options import TEACHER_KEYS
from mmkdlayer.pipelines import find_pipeline, test_loader
from mmkdlayer.type_names import type_name

#: Keys that change nothing of what a trained student answers.
NEUTRAL = {
    *('init_cfg', 'pretrained', 'loss', 'train_cfg', 'batch_augments', 'with_cp', 'frozen_stages'),
    *('norm_eval', 'backend_args', 'file_client_args', 'cal_acc', 'topk', '_scope_', '_delete_'),
}
#: Differences that are listed.
MOST = 5
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
        given, trained = student_facts(cfg), student_facts(parse_config(text))
    except Exception as error:  # whatever stands there, nested however deep
        MMLogger.get_current_instance().warning(
            f'Checkpoint {checkpoint}: the config that it was trained with cannot be compared '
            f'({type(error).__name__}: {str(error)[:200]}).'
        )
        return
    # Another type explains the others, so it is named first.
    differences = sorted(find_differences(given, trained), key=lambda text: '.type is ' not in text)
    if not differences:
        return
    more = f'; and {len(differences) - MOST} more' if len(differences) > MOST else ''
    words = (
        f'Checkpoint {checkpoint} was trained with another config, which makes another student of its '
        f'weights: {"; ".join(differences[:MOST])}{more}. '
    )
    if refuse:
        raise ConfigError(
            f'{words}Give the config of the training, which is in its work dir, with the same '
            '--cfg-options; or, to go by this config all the same, add --config-as-given.'
        )
    MMLogger.get_current_instance().warning(f'{words}This config is used.')


def student_facts(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config decides what its student answers; nothing is imported or built for it.

    The config is that of a training, of an exported student or of a plain classifier.
    """
    model = cfg['model']
    student = dict(model.get('architecture', model))
    distiller = model.get('distiller') or {}
    layers = {**(student.get('kd_layers') or {}), **(distiller.get('kd_layers') or {})}
    kind = type_name(student.pop('base', None) or student.get('type'))
    preprocessor = (
        model.get('data_preprocessor')
        or cfg.get('data_preprocessor')
        or student.get('data_preprocessor')
    )
    student.update(
        type='ImageClassifier' if kind == 'KDLayerClassifier' else kind,
        data_preprocessor={'type': 'ClsDataPreprocessor', **(preprocessor or {})},
        kd_layers={name: _layer_facts(layer) for name, layer in layers.items()},
    )
    return dict(model=student, test_pipeline=find_pipeline(test_loader(cfg)))


def _layer_facts(layer: Mapping[str, Any]) -> dict[str, Any]:
    """What a KD layer does; how many templates it has, its weights tell."""
    others = (*TEACHER_KEYS, 'num_templates')
    facts = {k: v for k, v in layer.items() if k not in others and v is not None}
    ours = 'type' not in (layer.get('layer') or {})
    return {'alpha': 1.0, **facts} if ours else facts


def find_differences(given: Any, trained: Any, name: str = '') -> Iterator[str]:
    """A phrase for each value that is not the same, by its dotted name."""
    if isinstance(given, (list, tuple)) and isinstance(trained, (list, tuple)):
        given, trained = list(given), list(trained)
        if len(given) == len(trained):
            given, trained = dict(enumerate(given)), dict(enumerate(trained))
    if isinstance(given, Mapping) and isinstance(trained, Mapping):
        for key in sorted({*given, *trained} - NEUTRAL, key=str):
            pair = given.get(key, _NOTHING), trained.get(key, _NOTHING)
            if None in pair and _NOTHING in pair:
                continue
            yield from find_differences(*pair, f'{name}.{key}' if name else str(key))
    else:
        if name.endswith(('.type', '.base')) and _NOTHING not in (given, trained):
            given, trained = type_name(given), type_name(trained)
        if given != trained:
            yield f'{name} is {_show(given)} here and was {_show(trained)}'


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
