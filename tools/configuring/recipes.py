"""Sizes and schedules as published (docs/method.md, section 5), scaled to the data at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mmkdlayer.type_names import type_name

#: Images up to this side are trained as CIFAR and Tiny-ImageNet are, larger ones as ImageNet is.
SMALL = 64
#: Epochs of a fine-tuning, and its learning rates for 32 images a step: of SGD, and of AdamW and others.
FINE_TUNING = 30
FINE_TUNING_SGD, FINE_TUNING_ADAPTIVE = 0.005, 5e-5
#: Optimisers that are trained as the published pairs are.
SGD_LIKE = ('SGD', 'LARS')
#: Networks that the literature trains at a lower rate on small images.
SLOW_STUDENTS = ('mobilenet', 'shufflenet')


@dataclass
class Recipe:
    """How a network's own config trains it."""

    optim_wrapper: dict[str, Any] = field(
        default_factory=dict
    )  #: its optimiser, with what belongs to it
    batch_size: int = 256  #: images a step that its learning rate is for

    @property
    def optimizer(self) -> str:
        """Type of the optimiser; SGD where the config has none."""
        return type_name((self.optim_wrapper.get('optimizer') or {}).get('type')) or 'SGD'


def num_components(num_classes: int, channels: int) -> int:
    """L: 60 for 100 classes or more, else 8; at most C - 1 and D."""
    return max(1, min(60 if num_classes >= 100 else 8, num_classes - 1, channels))


def num_centroids(positions: int, most: int = 4096, share: int = 16) -> int:
    """K: 4096, or the power of two that leaves each centroid 16 positions on average."""
    return max(2, min(most, 2 ** max(1, (positions // share).bit_length() - 1)))


def num_epochs(size: int, epochs: int | None) -> int:
    """Length of a training on images of this side: as asked for, else as published."""
    return epochs or (240 if size <= SMALL else 100)


def schedule_config(
    size: int, batch_size: int | None, epochs: int | None, rate: float | None, student: str
) -> dict[str, Any]:
    """Optimiser and schedule.

    Args:
        size: Side of the images.
        batch_size: Images a step; None for 64 small images or 32 large ones. The published learning
            rate is scaled to it.
        epochs: None for the published number.
        rate: Learning rate; None for the published one.
        student: Type of the student's backbone.
    """
    if size <= SMALL:
        batch_size, decay = batch_size or 64, 5e-4
        shares = (150 / 240, 180 / 240, 210 / 240)
        slow = student.rsplit('.', 1)[-1].lower().replace('cifar', '').startswith(SLOW_STUDENTS)
        base = (0.01 if slow else 0.05) / 64
    else:
        batch_size, decay, shares = batch_size or 32, 1e-4, (0.3, 0.6, 0.9)
        base = 0.1 / 256
    epochs = num_epochs(size, epochs)
    rate = float(f'{base * batch_size:.6g}') if rate is None else rate
    sgd = dict(type='SGD', lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    steps = sorted({round(share * epochs) for share in shares} - {0, epochs})
    return dict(
        optim_wrapper=dict(optimizer=sgd),
        param_scheduler=dict(type='MultiStepLR', by_epoch=True, milestones=steps, gamma=0.1),
        train_cfg=dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        auto_scale_lr=dict(base_batch_size=batch_size),
    )


def teacher_schedule(
    recipe: Recipe, size: int, batch_size: int | None, epochs: int | None, fine_tuned: bool
) -> dict[str, Any]:
    """What a teacher's training has in the place of :func:`schedule_config`; empty if nothing.

    From scratch, SGD trains as published, and any other optimiser with its own settings, warm-up and a
    cosine. Fine-tuning has a low rate and few epochs.

    Args:
        recipe: The network's own.
        size: Side of the images.
        batch_size: As for :func:`schedule_config`; so is the next.
        epochs: None for 30 in fine-tuning.
        fine_tuned: Whether it starts from weights for other classes.
    """
    plain = recipe.optimizer in SGD_LIKE
    if plain and not fine_tuned:
        return {}
    batch_size = batch_size or (64 if size <= SMALL else 32)
    epochs = epochs or (FINE_TUNING if fine_tuned else num_epochs(size, None))
    if plain:
        wrapper: dict[str, Any] = dict(
            optimizer=dict(type='SGD', momentum=0.9, nesterov=True, weight_decay=1e-4)
        )
        rate = FINE_TUNING_SGD / 32
    else:
        wrapper = dict(recipe.optim_wrapper, optimizer=dict(recipe.optim_wrapper['optimizer']))
        rate = wrapper['optimizer'].get('lr', 1e-3) / recipe.batch_size
        rate = FINE_TUNING_ADAPTIVE / 32 if fine_tuned else rate
    wrapper['optimizer']['lr'] = float(f'{rate * batch_size:.6g}')
    warm_up = min(20, max(1, epochs // 10)) if epochs > 1 else 0
    warming = [dict(type='LinearLR', start_factor=0.01, end=warm_up)] if warm_up else []
    schedulers = [*warming, dict(type='CosineAnnealingLR', begin=warm_up)]
    return dict(
        optim_wrapper=wrapper,
        param_scheduler=[
            dict(one, by_epoch=True, convert_to_iter_based=True) for one in schedulers
        ],
        train_cfg=dict(max_epochs=epochs),
    )
