"""An image classifier that carries its KD layers and needs no teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpretrain.models import ImageClassifier
from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.splicing import attach_kd_layers
from mmkdlayer.registry import MODELS

PLACE_KEYS = ('module', 'output_index')


@MODELS.register_module()
class KDLayerClassifier(ImageClassifier):
    """mmpretrain's ImageClassifier with KD layers in it.

    Args:
        *args: As for mmpretrain's ImageClassifier.
        kd_layers: For each layer its place, ``module`` (and ``output_index`` where the module returns a
            tuple), and the arguments of its :class:`KDLayerConnector`::

                kd_layers=dict(
                    inter=dict(module='backbone.layer4.0', in_channels=512, num_templates=8000),
                    penult=dict(module='backbone.layer4', in_channels=512, num_templates=4096))

            ``type`` chooses another registered layer.
        **kwargs: As for mmpretrain's ImageClassifier.

    Raises:
        ConfigError: A layer's description lacks its module, or does not fit the network.
    """

    def __init__(
        self, *args: Any, kd_layers: Mapping[str, Mapping[str, Any]] | None = None, **kwargs: Any
    ) -> None:
        if len(args) < 6:
            kwargs['data_preprocessor'] = _preprocessor(kwargs.get('data_preprocessor'))
        super().__init__(*args, **kwargs)
        layers, places = {}, {}
        for name, cfg in (kd_layers or {}).items():
            if not isinstance(cfg, Mapping) or 'module' not in cfg:
                raise ConfigError(
                    f'KDLayerClassifier: kd_layers["{name}"] must be a dict with the key "module" '
                    f'and the arguments of KDLayerConnector, but got {cfg!r}.'
                )
            places[name] = {key: cfg[key] for key in PLACE_KEYS if key in cfg}
            layer_cfg = {key: value for key, value in cfg.items() if key not in PLACE_KEYS}
            layer_cfg.setdefault('type', 'mmkdlayer.KDLayerConnector')
            layers[name] = MODELS.build(layer_cfg)
        attach_kd_layers(self, layers, places)


def _preprocessor(given: Any) -> Any:
    """A data preprocessor as ImageClassifier takes it, whatever the scope and the kind."""
    if isinstance(given, nn.Module):
        return given
    # With its scope: inside mmrazor's models its name alone is not found.
    cfg = {'type': 'mmpretrain.ClsDataPreprocessor', **(given or {})}
    if str(cfg['type']).rsplit('.', 1)[-1] == 'ClsDataPreprocessor':
        return cfg
    # ImageClassifier would give it arguments of its own (mmrazor's recipes have an ImgDataPreprocessor).
    return MODELS.build(cfg)
