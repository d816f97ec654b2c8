"""An image classifier that carries its KD layers and needs no teacher."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS as HOST_MODELS
from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import attach_kd_layers
from mmkdlayer.models.kd_layer_options import parse_kd_layers
from mmkdlayer.models.product_precision import set_precision
from mmkdlayer.registry import MODELS
from mmkdlayer.type_names import type_name


@MODELS.register_module()
class KDLayerClassifier(ImageClassifier):
    """mmpretrain's ImageClassifier with KD layers in it.

    Args:
        *args: As for mmpretrain's ImageClassifier.
        kd_layers: As in :class:`KDLayerDistiller`, without the teacher's keys::

                kd_layers=dict(
                    inter=dict(module='backbone.layer4.0', in_channels=512, num_templates=8000),
                    penult=dict(module='backbone.layer4', in_channels=512, num_templates=4096))
        precision: Of the KD layers' products, as for :class:`KDLayerDistiller`.
        base: A class derived from ImageClassifier, or its name: then the model is one of these, with KD
            layers in it. None for ImageClassifier itself.

        **kwargs: As for mmpretrain's ImageClassifier, or for ``base``.

    Raises:
        ConfigError: A layer's declaration is wrong, or does not fit the network; ``base`` is no such
            class; nothing would read ``train_cfg``.
    """

    def __new__(cls, *args: Any, base: Any = None, **kwargs: Any) -> KDLayerClassifier:
        """A model of this class, or of one that is derived from ``base`` as well."""
        if base is not None:
            found = base if inspect.isclass(base) else HOST_MODELS.get(base)
            if not (inspect.isclass(found) and issubclass(found, ImageClassifier)):
                raise ConfigError(
                    f'{cls.__name__}: base must be a class derived from ImageClassifier, or its name, '
                    f'but got {base!r}. If it is a class of yours, its module must be imported: add '
                    'custom_imports=dict(imports=[MODULE]) to the config.'
                )
            cls = type(f'KDLayer{found.__name__}', (cls, found), {})
        return super().__new__(cls)

    def __init__(
        self,
        *args: Any,
        kd_layers: Mapping[str, Mapping[str, Any]] | None = None,
        base: Any = None,
        precision: str | None = None,
        **kwargs: Any,
    ) -> None:
        options = parse_kd_layers(kd_layers, type(self).__name__, with_teacher=False)
        if len(args) < 6:
            kwargs['data_preprocessor'] = _preprocessor(kwargs.get('data_preprocessor'))
        super().__init__(*args, **kwargs)
        if kwargs.get('train_cfg') and not getattr(self.data_preprocessor, 'batch_augments', None):
            raise ConfigError(
                f'{type(self).__name__}: nothing reads train_cfg={kwargs["train_cfg"]}, because the '
                f'data preprocessor is a {type(self.data_preprocessor).__name__}. Its augments need a '
                'ClsDataPreprocessor; or take train_cfg out.'
            )
        attach_kd_layers(self, options)
        set_precision(self, precision)


def _preprocessor(given: Any) -> Any:
    """A data preprocessor as ImageClassifier takes it, whatever the scope and the kind."""
    if isinstance(given, nn.Module):
        return given
    # With its scope: inside mmrazor's models its name alone is not found.
    cfg = {'type': 'mmpretrain.ClsDataPreprocessor', **(given or {})}
    if type_name(cfg['type']) == 'ClsDataPreprocessor':
        return cfg
    # ImageClassifier would give it arguments of its own (mmrazor's recipes have an ImgDataPreprocessor).
    return MODELS.build(cfg)
