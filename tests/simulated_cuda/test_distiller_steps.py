"""Distillation steps on a simulated device: hard and soft labels, every loss of mmrazor, groups."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable

import mixing_cases as cases
import pytest
import torch
from conftest import tiny_distillation
from filled_decisions import fill_decision
from marks import slow_but
from mix_training import Launched
from mixing_networks import data_free, simkd, vitkd
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict

from mmkdlayer.models import CentroidDecision
from simulated_cuda.device import SimulatedCuda
from simulated_cuda.training import Trained, assert_same, assert_steady, sgd, train

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

STEPS = 3


@pytest.fixture
def both(
    make_distillation: Callable, make_batch: Callable, cuda: SimulatedCuda
) -> Callable[..., tuple[Trained, Trained]]:
    """Three steps on the device and on the CPU."""

    def run(
        config: dict | None = None,
        wrap: Callable = sgd,
        change: Callable = lambda batch: batch,
        make: Callable = make_distillation,
    ) -> tuple[Trained, Trained]:
        model = make(config)
        twin = copy.deepcopy(model)
        found = [
            train(each, [change(make_batch(seed=step)) for step in range(STEPS)], device, wrap)
            for each, device in ((model, cuda), (twin, None))
        ]
        return found[0], found[1]

    return run


def test_hard_labels(both: Callable) -> None:
    found, expected = both()
    assert_steady(found)
    assert_same(found, expected)
    assert all(p.is_cuda for p in found.model.parameters())


def test_adam_and_clipped_gradients(both: Callable) -> None:
    def wrap(model: torch.nn.Module) -> OptimWrapper:
        parameters = [p for p in model.parameters() if p.requires_grad]
        return OptimWrapper(torch.optim.AdamW(parameters, lr=1e-3), clip_grad=dict(max_norm=0.5))

    found, expected = both(wrap=wrap)
    # mmengine logs the norm of the gradients, which it asks for.
    for events in found.events[1:]:
        assert [event for event in events if event.where] == []
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize('mixed_classes', [None, 2])
def test_soft_labels(
    both: Callable, distillation_config: Callable, mixed_classes: int | None
) -> None:
    config = distillation_config(
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=3,
            batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)], probs=[1.0]),
        )
    )
    config['distiller']['kd_layers']['inter']['decision']['mixed_classes'] = mixed_classes
    import numpy as np

    def seeded(batch: Any) -> Any:
        np.random.seed(3)  # noqa: NPY002
        return batch

    found, expected = both(config, change=seeded)
    assert_steady(found)
    assert_same(found, expected)


def numbered(batch: tuple) -> tuple:
    """CRDLoss wants to know which images of the data set a batch has, and which others it may use."""
    for index, sample in enumerate(batch[1]):
        sample.set_data(dict(sample_idx=torch.tensor(index)))
        others = torch.tensor([index, *(10 + 3 * index + torch.arange(5)).tolist()])
        sample.set_data(dict(contrast_sample_idxs=others % cases.IMAGES))
    return batch


@pytest.mark.parametrize(
    'name', slow_but(('AngleWiseRKD', 'CRDLoss', 'DKDLoss', 'FBKDLoss', 'MGDLoss'), cases.MIXED)
)
def test_mixed_with_losses_of_mmrazor(
    name: str, both: Callable, distillation_config: Callable
) -> None:
    config = distillation_config()
    cases.add_loss(config, name, dict(cases.PARAMETERS)[name])
    found, expected = both(config, change=numbered)
    assert_steady(found, anywhere=False)
    assert_same(found, expected, 1e-3)


@pytest.fixture
def group(distillation_config: Callable, classifier_config: Callable) -> dict:
    """``inter`` learns from teacher ``wide``, ``penult`` from teacher ``narrow``."""
    config = distillation_config()
    teachers = dict(wide=classifier_config(6), narrow=classifier_config(6))
    config['teacher'] = dict(type='mmkdlayer.TeacherGroup', teachers=teachers)
    layers = config['distiller']['kd_layers']
    layers['inter']['teacher'] = 'wide.backbone.layer3.0'
    layers['penult']['teacher'] = 'narrow.backbone.layer3'
    return config


def test_group_of_teachers(both: Callable, group: dict) -> None:
    found, expected = both(group, make=build_with_decisions)
    assert_steady(found)
    assert_same(found, expected)


@pytest.mark.parametrize('with_loss', [vitkd, simkd])
def test_tokens_and_the_teachers_classifier(with_loss: Callable, both: Callable) -> None:
    found, expected = both(with_loss(tiny_distillation())[1], make=build_with_decisions)
    assert 'distill.loss_mixed' in found.logs[0]
    assert_steady(found)
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize('kind', ['DataFreeDistillation', 'DAFLDataFreeDistillation'])
def test_images_of_a_generator(
    kind: str,
    both: Callable,
    classifier_config: Callable,
    kd_layer_configs: Callable,
    tmp_path: Path,
) -> None:
    CentroidDecision.from_tables(torch.randn(5, 24)).save(tmp_path / 'penult.safetensors')
    decision = dict(
        type='mmkdlayer.CentroidDecision',
        num_centroids=5,
        file=str(tmp_path / 'penult.safetensors'),
    )
    student = cases.with_kd_layers(classifier_config(), kd_layer_configs())
    config = data_free(kind, student, classifier_config(6), decision)
    config['data_preprocessor'] = dict(type='mmpretrain.ClsDataPreprocessor')

    def launched(config: dict) -> torch.nn.Module:
        model = cases.build(config)
        model.generator = Launched(model.generator)
        return model

    def wrap(model: torch.nn.Module) -> OptimWrapperDict:
        return OptimWrapperDict(
            **{name: sgd(getattr(model, name)) for name in ('architecture', 'generator')}
        )

    found, expected = both(config, wrap, make=launched)
    assert {f'generator.loss_{name}' for name in cases.OF_GENERATORS} <= set(found.logs[0])
    # mmrazor draws the noise on the host.
    assert_steady(found, anywhere=False)
    assert_same(found, expected, 1e-4)


def build_with_decisions(config: dict) -> torch.nn.Module:
    model = cases.build(config)
    for loss in model.distiller.distill_losses.values():
        if hasattr(loss, 'decision'):
            fill_decision(loss.decision, 24)
    return model


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_mixed_precision(dtype: str, both: Callable) -> None:
    """Nothing is mixed, and of this package nothing waits; the loss scaler asks for overflows."""

    def wrap(model: torch.nn.Module) -> Any:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.05)
        return AmpOptimWrapper(dtype=dtype, loss_scale='dynamic', optimizer=optimizer)

    config = tiny_distillation()
    config['distiller'].update(teacher_dtype=dtype, teacher_channels_last=True)
    found, expected = both(config, wrap=wrap)
    assert_steady(found, anywhere=False)
    for ours, theirs in zip(found.logs, expected.logs):
        assert ours == pytest.approx(theirs, rel=0.1)
