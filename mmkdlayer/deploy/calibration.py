"""Which templates of a folded student fire on a set of images."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.pipelines import find_pipeline, fitting_dataloader_cfg, in_order, test_loader

from .file_pipeline import file_pipeline
from .folded_kd_layer import FoldedKDLayer

#: Calibration images that the exported student is compared on.
SAMPLE = 32


def calibration_loader(cfg: Config, data: str, images: int | None = None) -> DataLoader:
    """Images under the test-time transform, to see which templates fire.

    ``data`` is 'train', 'val' or 'test' for those of that data loader, or a folder of images, with
    or without sub-folders; ``images`` how many at most, drawn at random but the same each time.

    Raises:
        ConfigError: The config has no such data loader.
        DataError: There are no images.
    """
    test = test_loader(cfg)
    if data == 'train' and cfg.get('train_dataloader'):
        loader = fitting_dataloader_cfg(cfg)
    elif data in ('val', 'test') and cfg.get(f'{data}_dataloader'):
        loader = cfg[f'{data}_dataloader']
    elif Path(data).is_dir() and find_pipeline(test):
        images_of = dict(type='mmpretrain.CustomDataset', data_root=data, with_label=False)
        loader = ConfigDict(test, dataset=dict(images_of, pipeline=file_pipeline(cfg)))
    else:
        raise ConfigError(
            f'Pruning templates on {data!r}: expected "train", "val" or "test" (a data loader of the '
            'config), or a folder of images for a config with a test pipeline, but there is no such '
            f'folder; the config has {[key for key in cfg if key.endswith("_dataloader")]}.'
        )
    try:
        dataset = DATASETS.build(loader.dataset)
    except RuntimeError as error:  # mmpretrain's word for an empty folder
        raise DataError(f'Pruning templates on {data!r}: {error}') from error
    if images is not None and images < len(dataset):
        chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
        dataset = Subset(dataset, sorted(chosen[:images].tolist()))
    return Runner.build_dataloader(in_order(loader, dataset=dataset))


@torch.no_grad()
def find_firing(
    student: Any, preprocessor: nn.Module, batches: Iterable[Any]
) -> tuple[dict[str, Tensor], Tensor]:
    """Which templates of a folded student's layers fire anywhere in a data set.

    Returns:
        For each folded layer, a bool (K,) for each template; and images of the first batch, as the
        network takes them, (at most SAMPLE, C, H, W).

    Raises:
        DataError: There are no images.
    """
    firing: dict[str, Tensor] = {}

    def watch(layer: FoldedKDLayer, args: tuple[Tensor], name: str) -> None:
        # not (... <= 0): a NaN counts as firing, so that it is noticed
        fires = ~(layer.match(args[0]).amax(dim=(0, 2, 3)) <= 0).cpu()
        firing[name] = firing.get(name, False) | fires

    student = copy.deepcopy(student).eval()  # its hooks go with it
    for name, layer in student.kd_layers.items():
        if isinstance(layer, FoldedKDLayer):
            layer.register_forward_pre_hook(partial(watch, name=name))
    sample = None
    for batch in batches:
        inputs = preprocessor(batch, False)['inputs']
        sample = inputs[:SAMPLE] if sample is None else sample
        student(inputs, mode='tensor')
    if sample is None:
        raise DataError('Pruning templates: expected at least one image, but found none.')
    return firing, sample
