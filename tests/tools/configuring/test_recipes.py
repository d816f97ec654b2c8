"""Sizes of decisions and schedules that follow from the data."""

from __future__ import annotations

import pytest

from configuring.recipes import num_centroids, num_components, schedule_config


@pytest.mark.parametrize(
    ('positions', 'expected'),
    [(50000 * 64, 4096), (65536, 4096), (65535, 2048), (100, 4), (96, 4), (40, 2), (3, 2)],
)
def test_number_of_centroids(positions: int, expected: int) -> None:
    assert num_centroids(positions) == expected


@pytest.mark.parametrize(
    ('classes', 'channels', 'expected'),
    [(1000, 512, 60), (100, 64, 60), (10, 64, 8), (3, 64, 2), (2, 64, 1), (1000, 32, 32)],
)
def test_number_of_components(classes: int, channels: int, expected: int) -> None:
    assert num_components(classes, channels) == expected


@pytest.mark.parametrize(
    ('arguments', 'rate', 'epochs', 'milestones'),
    [
        ((32, 64, None, None, 'ResNet_CIFAR'), 0.05, 240, [150, 180, 210]),
        ((32, 64, None, None, 'mmkdlayer.CifarShuffleNetV1'), 0.01, 240, [150, 180, 210]),
        ((64, 64, None, None, 'MobileNetV2'), 0.01, 240, [150, 180, 210]),
        ((224, 256, None, None, 'MobileNetV2'), 0.1, 100, [30, 60, 90]),
        ((224, 32, 10, None, 'ResNet'), 0.0125, 10, [3, 6, 9]),
        ((224, 32, 1, 0.3, 'ResNet'), 0.3, 1, []),
    ],
)
def test_schedule(arguments: tuple, rate: float, epochs: int, milestones: list) -> None:
    schedule = schedule_config(*arguments)
    assert schedule['optim_wrapper']['optimizer']['lr'] == rate
    assert schedule['train_cfg']['max_epochs'] == epochs
    assert schedule['param_scheduler']['milestones'] == milestones
