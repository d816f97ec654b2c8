"""An image classifier that carries its KD layers and needs no teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpretrain.models import ImageClassifier

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
        preprocessor = kwargs.get('data_preprocessor') or {}
        if len(args) < 6 and isinstance(preprocessor, dict):
            # With its scope: inside mmrazor's models its name alone is not found.
            kwargs['data_preprocessor'] = {'type': 'mmpretrain.ClsDataPreprocessor', **preprocessor}
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
