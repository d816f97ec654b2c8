"""Tiny networks, decisions and batches for the tests of models, deployment and commands."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from filled_decisions import fill_decision
from forked import forked, program
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from quick_hosts import freeze, quicken
from torch import Tensor

import mmkdlayer

CLASSES, SUBCLASSES, CENTROIDS = 3, 2, 5

# A background job of a shell ignores Ctrl-C, and so would every process that the tests start from it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


quicken()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait most, so that no process is left alone with them at the end."""
    freeze()  # all modules are imported
    items.sort(key=lambda item: item.get_closest_marker('slurm') is None)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Leave signals as they were: a watch that one has ended lets the next end the process at once."""
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers):
        signal.signal(number, handler)


def tiny_classifier(channels: int = 4, **changes: Any) -> dict:
    """Config of a three-stage ResNet for 16x16 images: maps of 16x16, 8x8 and 4x4."""
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.ResNet_CIFAR',
            depth=18,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
            stem_channels=channels,
            base_channels=channels,
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=CLASSES,
            in_channels=4 * channels,
            loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0),
        ),
    )
    config.update(changes)
    return config


def tiny_kd_layers(channels: int = 4) -> dict:
    """``kd_layers`` of a KDLayerClassifier around :func:`tiny_classifier`."""
    return dict(
        inter=dict(
            module='backbone.layer3.0',
            in_channels=4 * channels,
            num_templates=CLASSES * SUBCLASSES,
        ),
        penult=dict(
            module='backbone.layer3', in_channels=4 * channels, num_templates=CENTROIDS, alpha=0.5
        ),
    )


def tiny_supervised_kd_layers(channels: int = 4) -> dict:
    """``kd_layers`` of a KDLayerDistiller: the same layers, supervised as in letKD-2."""
    supervision = dict(
        inter=dict(
            type='mmkdlayer.SubclassDecision',
            num_classes=CLASSES,
            num_subclasses=SUBCLASSES,
            num_components=2,
        ),
        penult=dict(type='mmkdlayer.CentroidDecision', num_centroids=CENTROIDS),
    )
    layers = tiny_kd_layers(channels)
    for name, decision in supervision.items():
        del layers[name]['num_templates']
        layers[name].update(teacher=layers[name]['module'], decision=decision)
    return layers


def tiny_distillation(teacher_channels: int = 6, student_channels: int = 4, **changes: Any) -> dict:
    """Config of letKD-2 between two of these networks; ``changes`` go into the algorithm."""
    config = dict(
        type='mmrazor.SingleTeacherDistill',
        architecture=tiny_classifier(student_channels),
        teacher=tiny_classifier(teacher_channels),
        distiller=dict(
            type='mmkdlayer.KDLayerDistiller',
            kd_layers=tiny_supervised_kd_layers(student_channels),
        ),
    )
    config.update(changes)
    return config


def build_distillation(config: dict | None = None, seed: int = 0) -> torch.nn.Module:
    """A distillation model in training mode, with made-up decisions, initialised from a seed."""
    import mmrazor.models  # noqa: F401
    from mmengine.registry import MODELS

    torch.manual_seed(seed)
    model = MODELS.build(config or tiny_distillation())
    model.init_weights()
    for loss in model.distiller.distill_losses.values():
        if hasattr(loss, 'decision'):
            fill_decision(loss.decision, model.teacher.head.fc.in_features)
    model.train()  # mmrazor's returns nothing
    return model


def random_batch(images: int = 4, seed: int = 1) -> tuple[Tensor, list[DataSample]]:
    """Images (N, 3, 16, 16) and their labels."""
    inputs = torch.randn(images, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return inputs, [DataSample().set_gt_label(index % CLASSES) for index in range(images)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in a test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (mmpretrain's batch augments draw from it)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_default_scope() -> Iterator[None]:
    """A test may set mmengine's default scope; the next one does not see it."""
    # Cleared before too: fixtures of a module or the session may have chosen a scope.
    before = DefaultScope._instance_dict.copy()
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture
def classifier_config() -> Callable[..., dict]:
    return tiny_classifier


@pytest.fixture
def kd_layer_configs() -> Callable[..., dict]:
    return tiny_kd_layers


@pytest.fixture
def distillation_config() -> Callable[..., dict]:
    pytest.importorskip('mmrazor', reason='distillation needs mmrazor')
    return tiny_distillation


@pytest.fixture
def make_distillation() -> Callable[..., torch.nn.Module]:
    pytest.importorskip('mmrazor', reason='distillation needs mmrazor')
    return build_distillation


@pytest.fixture
def make_batch() -> Callable[..., tuple[Tensor, list[DataSample]]]:
    return random_batch


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., str]:
    """Run code in a fresh interpreter that can import mmkdlayer; return what it prints."""

    folders = (Path(mmkdlayer.__file__).parents[1], Path(__file__).parent)

    def run(code: str, *arguments: str) -> str:
        file = tmp_path / 'script.py'
        file.write_text(code)
        done = subprocess.run(
            [sys.executable, str(file), *arguments],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, folders))},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def run_forked(tmp_path: Path) -> Callable[..., str]:
    """Run code as a program in a fork of this process, and return what it prints."""

    def run(code: str, *arguments: str) -> str:
        file = tmp_path / 'script.py'
        file.write_text(code)
        ((status, output, errors),) = forked(program(file, arguments))
        assert status == 0, errors
        return output

    return run
