"""Makes a student's KD layers small: folds them, and leaves out templates that never fire."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.connectors import KDLayerConnector
from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.pipelines import find_pipeline, fitting_dataloader_cfg

from .folded_kd_layer import FoldedKDLayer, fold_layer

#: Calibration images that the exported student is compared on.
SAMPLE = 32


@dataclass(frozen=True)
class LayerChange:
    """What became of a KD layer.

    Attributes:
        name: Its name.
        templates: How many it had.
        kept: How many are left; 0 if the layer is gone, since it never adds anything.
        reason: Why templates went.
    """

    name: str
    templates: int
    kept: int
    reason: str

    def __str__(self) -> str:
        gone = self.templates - self.kept
        layer = '; the layer is removed' if not self.kept else ''
        return f'KD layer {self.name}: {gone} of {self.templates} templates {self.reason}{layer}'


def replace_layer(model_cfg: dict, student: Any, name: str, layer: FoldedKDLayer | None) -> None:
    """Put a folded layer (or none) into the ``kd_layers`` of a student's config and of the student.

    The student's forward pass goes on with the old layer: build it anew from the config.
    """
    if layer is None:
        del model_cfg['kd_layers'][name]
        del student.kd_layers[name]
        return
    declared = dict(model_cfg['kd_layers'][name])
    declared.pop('alpha', None)  # folded into the weights
    model_cfg['kd_layers'][name] = dict(
        declared, num_templates=layer.num_templates, layer=dict(type='mmkdlayer.FoldedKDLayer')
    )
    student.kd_layers[name] = layer


def fold_student(model_cfg: dict, student: Any) -> list[LayerChange]:
    """Fold each KD layer of a student, in place; layers of other kinds stay.

    Args:
        model_cfg: The student's config, with ``kd_layers``.
        student: The student with its weights.

    Returns:
        Which layers lost templates by it.

    Raises:
        ConfigError: A layer can't be folded.
    """
    changes = []
    for name, layer in list(getattr(student, 'kd_layers', {}).items()):
        if not isinstance(layer, KDLayerConnector):
            continue
        folded = fold_layer(layer)
        replace_layer(model_cfg, student, name, folded)
        kept = folded.num_templates if folded is not None else 0
        reason = 'add nothing (alpha is 0)' if layer.alpha == 0 else 'can not fire on any input'
        if kept < layer.num_templates:
            changes.append(LayerChange(name, layer.num_templates, kept, reason))
    return changes


def calibration_loader(
    cfg: Config, data: str, images: int | None = None, seed: int = 0
) -> DataLoader:
    """Images under the test-time transform, to see which templates fire.

    Args:
        cfg: The training config.
        data: 'train', 'val' or 'test' for the images of that data loader, or a folder of images, with or
            without sub-folders.
        images: How many at most, drawn at random; None for all.
        seed: Seed of the draw.

    Raises:
        ConfigError: The config has no such data loader.
        DataError: There are no images.
    """
    if data == 'train' and cfg.get('train_dataloader'):
        loader = fitting_dataloader_cfg(cfg)
    elif data in ('val', 'test') and cfg.get(f'{data}_dataloader'):
        loader = copy.deepcopy(cfg[f'{data}_dataloader'])
    elif Path(data).is_dir() and find_pipeline((cfg.get('test_dataloader') or {}).get('dataset')):
        loader = copy.deepcopy(cfg.test_dataloader)
        loader.dataset = dict(
            type='mmpretrain.CustomDataset',
            data_root=data,
            with_label=False,
            pipeline=find_pipeline(cfg.test_dataloader.dataset),
        )
    else:
        raise ConfigError(
            f'Pruning templates on {data!r}: expected "train", "val" or "test" (a data loader of the '
            'config), or a folder of images for a config with test_dataloader, but there is no such '
            f'folder; the config has {[key for key in cfg if key.endswith("_dataloader")]}.'
        )
    try:
        dataset = DATASETS.build(loader.pop('dataset'))
    except RuntimeError as error:  # mmpretrain's word for an empty folder
        raise DataError(f'Pruning templates on {data!r}: {error}') from error
    if images is not None and images < len(dataset):
        chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
        dataset = Subset(dataset, sorted(chosen[:images].tolist()))
    loader.sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
    loader.drop_last = False
    loader.persistent_workers = False
    return Runner.build_dataloader(dict(loader, dataset=dataset))


@torch.no_grad()
def find_firing(student: Any, batches: Iterable[Any]) -> tuple[dict[str, Tensor], Tensor]:
    """Which templates of a folded student's layers fire anywhere in a data set.

    Args:
        student: With :class:`FoldedKDLayer` layers.
        batches: Batches of a data loader.

    Returns:
        For each folded layer, a bool (K,) for each template; and the first images, as the network
        takes them, (at most SAMPLE, 3, H, W).

    Raises:
        DataError: There are no images.
    """
    layers = {k: v for k, v in student.kd_layers.items() if isinstance(v, FoldedKDLayer)}
    firing = {
        name: torch.zeros(layer.num_templates, dtype=torch.bool) for name, layer in layers.items()
    }

    def watch(name: str) -> Any:
        def hook(layer: FoldedKDLayer, args: tuple[Tensor]) -> None:
            # not (... <= 0): a NaN counts as firing, so that it is noticed
            firing[name] |= ~(layer.match(args[0]).amax(dim=(0, 2, 3)) <= 0).cpu()

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    sample: list[Tensor] = []
    try:
        with evaluating(student):
            for batch in batches:
                inputs = student.data_preprocessor(batch, False)['inputs']
                if sum(map(len, sample)) < SAMPLE:
                    sample.append(inputs[:SAMPLE].cpu())
                student(inputs, mode='tensor')
    finally:
        for handle in handles:
            handle.remove()
    if not sample:
        raise DataError('Pruning templates: expected at least one image, but found none.')
    return firing, torch.cat(sample)[:SAMPLE]


def prune_student(
    model_cfg: dict, student: Any, firing: dict[str, Tensor], images: str
) -> list[LayerChange]:
    """Leave out the templates that do not fire, in place.

    Where ``q_k`` is 0 at every position, neither the norm of q nor the sum over the templates has a part
    of it: on images where nothing else fires, logits stay the same up to rounding.

    Args:
        model_cfg: The folded student's config.
        student: The folded student.
        firing: For each layer, which templates stay.
        images: On which images they were watched, for the report.

    Raises:
        ConfigError: No template of a layer fires.
    """
    changes = []
    for name, fires in firing.items():
        layer = student.kd_layers[name]
        kept = int(fires.sum())
        if not kept:
            raise ConfigError(
                f'KD layer {name}: none of its {layer.num_templates} templates fires on {images}. '
                'Prune on images like those of the training.'
            )
        replace_layer(model_cfg, student, name, layer.keep(fires))
        changes.append(LayerChange(name, layer.num_templates, kept, f'do not fire on {images}'))
    return changes
