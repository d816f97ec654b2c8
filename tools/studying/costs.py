"""What a student costs at inference: parameters and FLOPs, as trained and with folded KD layers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.analysis import parameter_count
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmkdlayer.deploy import student_model_config
from mmkdlayer.deploy.example_images import find_examples
from mmkdlayer.deploy.flops import count_flops
from mmkdlayer.deploy.folding import fold_student
from mmkdlayer.errors import ConfigError


def measure_cost(cfg: Config, exported: Path | None = None) -> dict[str, Any]:
    """Parameters and FLOPs for one image of the student of a training config, with new weights.

    FLOPs are counted as mmengine does: one for each multiply-add, two for each value of a batch norm. A
    folded KD layer is two plain 1x1 convolutions; one with alpha 0 is nothing.

    Args:
        cfg: The config.
        exported: Folder of the exported student, whose config tells the size of the images; None to take
            that of test images, or what the test pipeline makes of all.

    Returns:
        ``parameters``, ``flops``, ``folded_parameters``, ``folded_flops`` and ``image`` (C, H, W); the
        FLOPs are None where nothing tells the size.
    """
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    model = student_model_config(cfg)
    network = MODELS.build(copy.deepcopy(model)).eval()
    if exported is not None:
        shape = tuple(Config.fromfile(exported / 'student.py').image_shape)
    else:
        kind = dict(type='mmpretrain.ClsDataPreprocessor')
        preprocessor = MODELS.build(dict(model.get('data_preprocessor') or kind))
        try:
            shape = tuple(find_examples(cfg, preprocessor, network).images.shape[1:])
        except ConfigError:  # neither test images nor the pipeline tell it
            shape = ()
    parameters, flops = count(network, shape)
    fold_student(dict(model), network)
    folded_parameters, folded_flops = count(network.eval(), shape)
    return dict(
        parameters=parameters,
        flops=flops,
        folded_parameters=folded_parameters,
        folded_flops=folded_flops,
        image=list(shape),
    )


def count(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int | None]:
    """Parameters of a network, and its FLOPs on one image (C, H, W); None without a shape."""
    parameters = int(parameter_count(network)[''])
    return parameters, int(count_flops(network, shape)['']) if shape else None
