"""The teacher of a pair: its checkpoint, and the training that it gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from pairs import RESNET, pair_options

from configuring import make_config
from configuring.networks import load_network
from mmkdlayer.errors import CheckpointError
from mmkdlayer.registry import MODELS


def test_teacher_checkpoint_of_another_network(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}), file)
    out = tmp_path / 'pair.py'
    with pytest.raises(CheckpointError, match='does not fit the teacher'):
        make_config(pair_options(folder, out, teacher_ckpt=str(file)))
    assert list(tmp_path.iterdir()) == [file]


PURE = """
from mmengine.model.weight_init import PretrainedInit
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import CIFAR10, PackInputs
from mmpretrain.models import (
    ClsDataPreprocessor, CrossEntropyLoss, GlobalAveragePooling, ImageClassifier, LinearClsHead,
    ResNet_CIFAR)
from torch.optim import AdamW

model = dict(
    type=ImageClassifier,
    backbone=dict(
        type=ResNet_CIFAR, depth=18, out_indices=(3,),
        init_cfg=dict(type=PretrainedInit, checkpoint='nowhere.pth')),
    neck=dict(type=GlobalAveragePooling),
    head=dict(
        type=LinearClsHead, num_classes=10, in_channels=512, loss=dict(type=CrossEntropyLoss)))
data_preprocessor = dict(type=ClsDataPreprocessor, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
test_dataloader = dict(
    dataset=dict(type=CIFAR10, data_root='x', split='test', pipeline=[dict(type=PackInputs)]))
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=1024)
"""


def test_pure_python_config_of_a_teacher(folder: Path, tmp_path: Path) -> None:
    (tmp_path / 'pure.py').write_text(PURE)
    out, teacher_out = tmp_path / 'pair.py', tmp_path / 't.py'
    options = dict(teacher=str(tmp_path / 'pure.py'), teacher_out=str(teacher_out), batch_size=64)
    make_config(pair_options(folder, out, **options))
    cfg = Config.fromfile(teacher_out)
    MODELS.build(dict(cfg.model)).init_weights()  # the weights of its config are gone
    assert cfg.model.head.num_classes == 3
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(6.25e-5)
    assert cfg.data_preprocessor.mean == [1.0, 2.0, 3.0]
    assert cfg.data_preprocessor.to_rgb  # arrays of CIFAR are RGB, and the images files are BGR
    model = MODELS.build(dict(cfg.model))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.AdamW


def test_teacher_checkpoint_for_other_classes(folder: Path, tmp_path: Path) -> None:
    model = load_network(RESNET, 'teacher', 10).model
    file = tmp_path / 'ten.pth'
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), file)
    with pytest.raises(CheckpointError) as error:
        make_config(pair_options(folder, tmp_path / 'pair.py', teacher_ckpt=str(file)))
    for words in ('is for 10 classes', 'your data, has 3', f'--teacher-init {file}'):
        assert words in str(error.value)


def test_teacher_checkpoint_without_a_head(folder: Path, tmp_path: Path) -> None:
    weights = MODELS.build(load_network(RESNET, 'teacher', 3).model).state_dict()
    file = tmp_path / 'backbone.pth'
    torch.save({key: value for key, value in weights.items() if 'head' not in key}, file)
    with pytest.raises(CheckpointError, match='does not fit the teacher.*head.fc'):
        make_config(pair_options(folder, tmp_path / 'pair.py', teacher_ckpt=str(file)))


def test_teacher_is_fine_tuned_from_a_file(folder: Path, tmp_path: Path) -> None:
    weights = MODELS.build(load_network(RESNET, 'teacher', 10).model).state_dict()
    file = tmp_path / 'ten.pth'
    torch.save(dict(state_dict=weights), file)
    options = dict(
        teacher_out=str(tmp_path / 't.py'), teacher_init=str(file), epochs=None, batch_size=None
    )
    make_config(pair_options(folder, tmp_path / 'pair.py', **options))
    cfg = Config.fromfile(tmp_path / 't.py')
    assert cfg.train_cfg.max_epochs == 30
    assert cfg.train_cfg.type == 'mmkdlayer.ResumableEpochLoop'
    assert cfg.optim_wrapper == dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    )
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, cosine.begin) == ('LinearLR', 3, 3)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert torch.equal(
        model.backbone.layer4[1].conv2.weight, weights['backbone.layer4.1.conv2.weight']
    )
    assert model.head.fc.weight.shape == (3, 512)
    torch.save(dict(state_dict={'layer1.weight': torch.zeros(1)}), file)
    with pytest.raises(CheckpointError, match='but found layer1.weight.*convert_teacher'):
        make_config(pair_options(folder, tmp_path / 'new.py', **{**options, 'force': True}))


@pytest.mark.parametrize(('init', 'rate', 'epochs'), [(None, 5e-5, 30), ('none', 3.125e-5, 100)])
def test_teacher_has_its_own_recipe(
    folder: Path, tmp_path: Path, init: str | None, rate: float, epochs: int
) -> None:
    options = dict(
        teacher='swin-tiny_16xb64_in1k',
        student='resnet18_8xb32_in1k',
        teacher_out=str(tmp_path / 't.py'),
        teacher_init=init,
        letkd1=True,
        epochs=None,
        batch_size=None,
    )
    make_config(pair_options(folder, tmp_path / 'pair.py', **options))
    cfg = Config.fromfile(tmp_path / 't.py')
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.weight_decay) == ('AdamW', 0.05)
    assert optimizer.lr == pytest.approx(rate)  # 0.001 for 1024 images, and 32 of them here
    assert 'momentum' not in optimizer
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    assert cfg.optim_wrapper.paramwise_cfg.norm_decay_mult == 0
    assert [one.type for one in cfg.param_scheduler] == ['LinearLR', 'CosineAnnealingLR']
    assert cfg.param_scheduler[0].end == epochs // 10
    assert cfg.train_cfg.max_epochs == epochs
    start = cfg.model.backbone.get('init_cfg', {}).get('checkpoint', '')
    assert ('swin_tiny_224' in start) == (init is None)
    assert 'AdamW' not in (tmp_path / 'pair.py').read_text()


def test_start_from_weights_for_larger_images(folder: Path, tmp_path: Path) -> None:
    name, teacher_out = 'resnet18_8xb32_in1k', str(tmp_path / 't.py')
    options = dict(image_size=64, letkd1=True, teacher_out=teacher_out)
    pair = make_config(pair_options(folder, tmp_path / 'pair.py', name, name, **options))
    (hint,) = (hint for hint in pair.hints if 'weights for images' in hint)
    assert '224x224, and gets 64x64 here' in hint and '--image-size 224' in hint
