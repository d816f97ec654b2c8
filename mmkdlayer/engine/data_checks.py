"""What a training would fail on later, found on the training set before it begins."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models.evaluating import evaluating, outputs_of

from .prepare_decisions import unchanged_randomness


def check_training_data(model: Any, dataloader: Any) -> list[str]:
    """Check the student's head and batch norms against the training set; warnings are returned.

    One image is read, where that is needed. The model may be the student or an algorithm with one.

    Raises:
        ConfigError: The head has fewer classes than the data set, or a batch norm would be given one
            value in a batch of one image.
        DataError: The head needs labels, and the data set has none.
    """
    student, dataset = getattr(model, 'student', model), dataloader.dataset
    warnings = check_classes(student, model.data_preprocessor, dataset)
    head, single = getattr(student, 'head', None), batches_of_one(dataloader)
    labelled = isinstance(head, ClsHead) and not hasattr(model, 'generator')  # it makes the images
    if (single or labelled) and hasattr(dataset, '__getitem__'):
        with unchanged_randomness():
            data = model.data_preprocessor(dataloader.collate_fn([dataset[0]]), False)
        if labelled:
            check_labels(head, data.get('data_samples'))
        if single:
            check_batch_norms(student, data['inputs'], single)
    return warnings


def check_batches(dataloader: Any, name: str) -> None:
    """Raise a ConfigError where a loader gives no batch: too few images for one, with ``drop_last``."""
    images = len(dataloader.dataset) if hasattr(dataloader.dataset, '__len__') else None
    if images is not None and not len(dataloader):
        raise ConfigError(
            f'{name} gives no batch: of its {images} images none are left in batches of '
            f'{dataloader.batch_size} with drop_last={dataloader.drop_last}. Set a smaller '
            f'{name}.batch_size, or {name}.drop_last=False.'
        )


def check_classes(student: nn.Module, preprocessor: nn.Module, dataset: Any) -> list[str]:
    """Compare the number of classes of the head, the data preprocessor and the data set."""
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    outputs = getattr(getattr(student, 'head', None), 'num_classes', None)
    if not isinstance(outputs, int):
        return []
    said = getattr(preprocessor, 'num_classes', None)
    if getattr(preprocessor, 'to_onehot', False) and said not in (None, outputs):
        raise ConfigError(
            f"data_preprocessor.num_classes is {said}, but the student's head has "
            f'num_classes={outputs}. Labels are made one-hot (to_onehot, batch_augments), so both must '
            'be the same.'
        )
    if classes is None or len(classes) == outputs:
        return []
    if outputs < len(classes):
        raise ConfigError(
            f"The student's head has num_classes={outputs}, but the training set has {len(classes)} "
            'classes. Set model.architecture.head.num_classes to that.'
        )
    return [
        f"The student's head has num_classes={outputs}, but the training set has {len(classes)} "
        f'classes: the other {outputs - len(classes)} are never right.'
    ]


def check_labels(head: Any, samples: Any) -> None:
    """Raise a DataError where a head that needs labels is given an image without one."""
    sample = samples[0] if samples else None
    if sample is None or not ('gt_label' in sample or 'gt_score' in sample):
        raise DataError(
            f"The student's head ({type(head).__name__}) computes a loss of the labels, but the first "
            'image of the training set has neither gt_label nor gt_score. Use a data set with labels '
            '(with_label=True), or a head of your own whose loss needs none: mmrazor runs it also with '
            'calculate_student_loss=False.'
        )


def batches_of_one(dataloader: Any) -> str:
    """Which batches of a training have one image, for a message; empty where none has."""
    sampler, size = dataloader.sampler, dataloader.batch_size
    if size == 1:
        return 'Each batch has one image'
    if size is None or dataloader.drop_last or isinstance(sampler, InfiniteSampler):
        return ''
    if not hasattr(sampler, '__len__') or len(sampler) % size != 1:
        return ''
    return f'The last batch of an epoch has one image ({len(sampler)} in batches of {size})'


@torch.no_grad()
def check_batch_norms(student: nn.Module, images: Tensor, batches: str) -> None:
    """Raise a ConfigError where a batch norm in training mode would see a single value per channel.

    It is looked for with one preprocessed image (1, C, H, W); ``batches`` says which have one image.
    """
    with evaluating(student):
        student.train()
        norms = {
            name: module
            for name, module in student.named_modules()
            if module.training and isinstance(module, _BatchNorm) and not _is_synchronised(module)
        }
        student.eval()
        with outputs_of(norms) as maps:
            student(images, mode='tensor')
    found = [name for name, one in maps.items() if one.numel() == one.size(1)]
    if found:
        raise ConfigError(
            f'{batches}, and there {found[0]} has one value per channel (a map of 1x1), of which no '
            'batch norm can take a variance. Set train_dataloader.drop_last=True, or another '
            'batch_size.'
        )


def _is_synchronised(module: nn.Module) -> bool:
    return 'Sync' in type(module).__name__ and get_world_size() > 1
