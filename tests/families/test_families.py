"""Every family of mmpretrain as teacher and student: a config is made, trains, its KD layers count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mmpretrain
import pytest
import torch
from command_line import write_images
from filled_decisions import fill_decision
from marks import slow_but
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from configuring import Pair, PairOptions, make_config
from families.small_networks import (
    CLASSES,
    FAMILIES,
    NO_TEACHERS,
    OF_OTHER_MODELS,
    PLACES,
    READS_CLASS_TOKEN,
    WITHOUT_REGIONS,
)
from mmkdlayer.engine.supervision import find_supervised_layers
from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS

SAMPLE = (
    'VisionTransformer',
    'DistilledVisionTransformer',
    'XCiT',
    'SwinTransformer',
    'MViT',
    'TinyViT',
)
CONFIGS = Path(mmpretrain.__file__).parent / '.mim' / 'configs'


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_images(tmp_path_factory.mktemp('folder'), classes=CLASSES, train=8, test=1)
    (root / 'test').rename(root / 'val')
    return root


def write_network(name: str, folder: Path) -> str:
    file = folder / f'{re.sub("[^A-Za-z0-9]+", "_", name)}.py'
    file.write_text(f'model = {FAMILIES[name][1]!r}\n')
    return str(file)


def make_pair(teacher: str, student: str, data: Path, folder: Path) -> Pair:
    init_default_scope('mmpretrain')
    return make_config(
        PairOptions(
            write_network(teacher, folder),
            write_network(student, folder),
            data=str(data),
            out=str(folder / 'pair.py'),
            image_size=FAMILIES[student][0],
            num_subclasses=2,
            num_centroids=8,
        )
    )


def build(config: str) -> Any:
    """The pair, with random decisions for the features of its teacher."""
    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    model: Any = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    size = Path(config).read_text().split(' pixels.')[0].rpartition('x')[2]
    with torch.no_grad(), model.distiller.teacher_recorders:
        model.teacher.eval()(torch.randn(1, 3, int(size), int(size)), mode='tensor')
    for layer in find_supervised_layers(model.distiller):
        fill_decision(layer.decision, model.distiller.get_record(**layer.feature).size(1))
    model.train()
    return model


def name_of(layer: dict, prefix: str, index: str) -> str:
    module = layer[prefix].removeprefix('backbone').removeprefix('.')
    return f'{module}:{layer[index]}' if index in layer else module


def logits_of(student: Any, images: torch.Tensor) -> torch.Tensor:
    """Shape (1, N, classes), or (2, N, classes) of Conformer, which has two heads."""
    logits = student(images, mode='tensor')
    return torch.stack(logits if isinstance(logits, (tuple, list)) else [logits])


@pytest.mark.parametrize('name', slow_but(SAMPLE, FAMILIES))
def test_family(name: str, folder: Path, tmp_path: Path) -> None:
    teacher = 'VisionTransformer' if name in NO_TEACHERS else name
    pair = make_pair(teacher, name, folder, tmp_path)
    layers = pair.kd_layers.values()
    assert tuple(name_of(layer, 'module', 'output_index') for layer in layers) == PLACES[name]
    found = tuple(name_of(layer, 'teacher', 'teacher_index') for layer in layers)
    assert found == PLACES[teacher]
    explained = ['class token' in why for why in pair.reasons if 'penult, student: ' in why]
    assert explained == [True] * (name in READS_CLASS_TOKEN)

    model = build(pair.options.out)
    student = model.student
    images = torch.randn(2, 3, pair.image_size, pair.image_size)
    samples = [DataSample().set_gt_label(label) for label in (0, 1)]
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        losses = model(images, samples, mode='loss')
        assert {'distill.loss_inter', 'distill.loss_penult'} <= set(losses)
        model.parse_losses(losses)[0].backward()
        for layer in student.kd_layers.values():
            for parameter in layer.parameters():
                assert parameter.grad.isfinite().all()
                assert parameter.grad.abs().max() > 0
        optimizer.step()
    with torch.no_grad():
        logits = logits_of(student.eval(), images)
        assert logits.shape[1:] == (2, CLASSES)
        for layer in student.kd_layers.values():
            kept = layer.semantics.weight.clone()
            layer.semantics.weight.copy_(torch.randn_like(kept))
            assert not torch.equal(logits_of(student, images), logits)
            layer.semantics.weight.copy_(kept)


@pytest.mark.parametrize('name', NO_TEACHERS)
def test_no_teachers(name: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='overwritten in place') as error:
        make_pair(name, 'VisionTransformer', folder, tmp_path)
    assert '--teacher-penult' in str(error.value)


def test_no_family_is_missing() -> None:
    """Each backbone of a classifier among mmpretrain's configs is here."""
    texts = [file.read_text() for file in CONFIGS.rglob('*.py')]
    found = {
        kind
        for text in texts
        for kind in re.findall(r"backbone=dict\(\s*type='(?:mmpretrain\.)?(\w+)'", text)
    }
    assert found - {*OF_OTHER_MODELS, *WITHOUT_REGIONS} == {
        config['backbone']['type'] for _, config in FAMILIES.values()
    }
    assert set(PLACES) == set(FAMILIES)
