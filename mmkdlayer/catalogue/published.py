"""Figures quoted from the paper. None of them was measured with this code.

Source: Gorgun, Gurbuz, Alatan, "Knowledge Distillation Layer that Lets the Student Decide", BMVC 2023
(arXiv 2309.02843), tables and supplementary material.
"""

from __future__ import annotations

from typing import NamedTuple

TITLE = 'Knowledge Distillation Layer that Lets the Student Decide'
URL = 'https://arxiv.org/abs/2309.02843'
MARK = 'quoted from the paper (BMVC 2023, arXiv 2309.02843), not measured with this code'

NAMES = {
    'resnet18': 'ResNet-18',
    'resnet20': 'ResNet-20',
    'resnet32': 'ResNet-32',
    'resnet34': 'ResNet-34',
    'resnet50': 'ResNet-50',
    'resnet56': 'ResNet-56',
    'resnet110': 'ResNet-110',
    'resnet8x4': 'ResNet-8x4',
    'resnet32x4': 'ResNet-32x4',
    'wrn16-2': 'WRN-16-2',
    'wrn40-1': 'WRN-40-1',
    'wrn40-2': 'WRN-40-2',
    'shufflenetv1': 'ShuffleNetV1',
    'shufflenetv2': 'ShuffleNetV2',
    'mobilenetv1': 'MobileNetV1',
    'mobilenetv2': 'MobileNetV2',
}


class Dataset(NamedTuple):
    """A data set of the paper: name as in the host's metafiles, side of the images, runs averaged."""

    name: str
    side: int
    note: str


DATASETS = {
    'cifar100': Dataset('CIFAR-100', 32, 'mean of 5 runs'),
    'tinyimagenet': Dataset('Tiny-ImageNet', 64, 'mean of 3 runs'),
    'in1k': Dataset('ImageNet-1k', 224, 'top-1 / top-5'),
}


class Figures(NamedTuple):
    """Top-1 accuracies of a pair in percent (top-1, top-5 on ImageNet); None where none is given."""

    teacher: tuple[float, ...]
    student: tuple[float, ...]
    kd: tuple[float, ...] | None
    quest: tuple[float, ...] | None
    letkd1: tuple[float, ...]
    letkd2: tuple[float, ...]


def _top1(*values: float | None) -> Figures:
    return Figures(*(None if value is None else (value,) for value in values))  # type: ignore[arg-type]


#: By pair and data set.
FIGURES = {
    'wrn40-2_wrn16-2_cifar100': _top1(75.61, 73.26, 74.92, 76.10, 76.29, 76.56),
    'wrn40-2_wrn40-1_cifar100': _top1(75.61, 71.98, 73.54, 74.58, 75.01, 75.19),
    'resnet56_resnet20_cifar100': _top1(72.34, 69.06, 70.66, 71.84, 72.44, 73.27),
    'resnet110_resnet20_cifar100': _top1(74.31, 69.06, 70.67, 71.89, 72.68, 73.38),
    'resnet110_resnet32_cifar100': _top1(74.31, 71.14, 73.08, 74.08, 74.40, 74.62),
    'resnet32x4_resnet8x4_cifar100': _top1(79.42, 72.50, 73.33, 75.88, 76.70, 77.09),
    'wrn40-2_shufflenetv1_cifar100': _top1(75.61, 70.50, 74.83, 76.75, 76.93, 77.08),
    'resnet32x4_shufflenetv1_cifar100': _top1(79.42, 70.50, 74.07, 76.28, 76.65, 77.30),
    'resnet32x4_shufflenetv2_cifar100': _top1(79.42, 71.82, 74.45, 77.09, 77.75, 77.95),
    'resnet50_mobilenetv2_cifar100': _top1(79.34, 64.60, 67.35, 69.81, 69.97, 70.39),
    'wrn40-2_wrn16-2_tinyimagenet': _top1(61.26, 57.17, None, None, 61.42, 62.21),
    'wrn40-2_wrn40-1_tinyimagenet': _top1(61.26, 56.25, None, None, 59.75, 60.59),
    'resnet56_resnet20_tinyimagenet': _top1(58.34, 52.66, None, None, 55.54, 57.35),
    'wrn40-2_shufflenetv1_tinyimagenet': _top1(61.26, 60.52, None, None, 65.70, 66.15),
    'resnet50_mobilenetv2_tinyimagenet': _top1(68.97, 58.35, None, None, 60.69, 61.15),
    'resnet34_resnet18_in1k': Figures(
        (73.31, 91.42),
        (69.75, 89.07),
        (70.66, 89.88),
        (71.67, 90.67),
        (72.33, 91.06),
        (72.38, 91.15),
    ),
    # The paper says "MNV2"; its published code builds a MobileNetV1, whose baseline this is.
    'resnet50_mobilenetv1_in1k': Figures(
        (76.13, 92.86),
        (68.87, 88.76),
        (68.58, 88.98),
        (72.54, 91.13),
        (73.78, 91.81),
        (73.98, 92.00),
    ),
}

#: Ablation on CIFAR-100, ResNet-56 -> ResNet-20: config, what it is, top-1.
ABLATION = (
    ('inter0', 'intermediate layer only, alpha 0', 70.64),
    ('inter1', 'intermediate layer only, alpha 1', 70.80),
    ('penult0', 'penultimate layer only, alpha 0', 71.84),
    ('penult1', 'penultimate layer only, alpha 1 (letKD-1)', 72.44),
    ('inter0_penult0', 'both, alpha 0 and 0', 71.70),
    ('inter0_penult1', 'both, alpha 0 at the intermediate and 1 at the penultimate layer', 72.13),
    ('inter1_penult0', 'both, alpha 1 at the intermediate and 0 at the penultimate layer', 72.78),
    ('inter1_penult1', 'both, alpha 1 and 1 (letKD-2)', 73.27),
    ('student', 'ResNet-20 alone', 69.06),
    ('kd', 'KD of the logits', 70.66),
    ('quest', 'QUEST, which is letKD-1 with alpha 0', 71.84),
    ('unsupervised', 'both KD layers without a teacher (capacity control)', None),
)

COST = (
    'about 2% longer per image for the intermediate layer, and 2% to 20% for the penultimate layer '
    'with K from 64 to 4096'
)
