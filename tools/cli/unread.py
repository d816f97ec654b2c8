"""Entries of a config that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config
from torch import nn

from mmkdlayer.errors import ConfigError

from .overrides import read_keys


def check_unread(cfg: Config) -> None:
    """Raise a ConfigError where ``kd_layers`` stands at the top level."""
    if cfg.get('kd_layers') and "'kd_layers'" not in str(cfg.model):
        raise ConfigError(
            'kd_layers stands at the top level of the config, where nothing reads it. Put it into '
            'model.distiller=dict(type="mmkdlayer.KDLayerDistiller", kd_layers=...).'
        )


def unread_warnings(cfg: Config, model: nn.Module) -> Iterator[str]:
    """A sentence for each entry of the config that stands where something else is read.

    Args:
        cfg: Of a training.
        model: What was built of it.
    """
    inner, outer = cfg.model.get('data_preprocessor'), cfg.get('data_preprocessor')
    if inner and outer and _normalisation(inner) != _normalisation(outer):
        yield (
            f'model.data_preprocessor is used, {inner}; data_preprocessor at the top level is not read, '
            f'{outer}. Take one of them out.'
        )
    known = read_keys()
    for key in sorted(set(cfg) - known):
        near = get_close_matches(key, known, n=1, cutoff=0.9)
        if near:
            yield f'Nothing reads "{key}" of the config. Did you mean "{near[0]}"?'
    names = [name for name, _ in model.named_parameters()]
    paramwise = (cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}
    for key in paramwise.get('custom_keys') or {}:
        if not any(key in name for name in names):
            yield f'optim_wrapper.paramwise_cfg.custom_keys: no parameter has "{key}" in its name.'


def _normalisation(preprocessor: Mapping[str, Any]) -> list[Any]:
    """What of a preprocessor's config decides how the network sees an image."""
    rgb = preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb') or False
    mean, std = (list(preprocessor.get(key) or []) for key in ('mean', 'std'))
    return [mean, std, rgb, preprocessor.get('batch_augments')]
