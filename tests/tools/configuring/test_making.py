"""Configs that tools/make_config.py writes: what is in them, that they train, what is refused."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Callable

import pytest
import torch
from command_line import ROOT
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from PIL import Image

from configuring import PairOptions, make_config
from configuring.data_folder import read_data_folder
from configuring.networks import adapt, load_network
from configuring.recipes import num_centroids, num_components, schedule_config
from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import CheckpointError, ConfigError, DataError
from mmkdlayer.registry import MODELS

RESNET = 'resnet18_8xb16_cifar10'
FAST = [
    f'{split}_dataloader.{key}={value}'
    for split in ('train', 'val')
    for key, value in (('num_workers', 0), ('persistent_workers', False))
]


def pair_options(
    folder: Path, out: Path, teacher: str = RESNET, student: str = RESNET, **more
) -> PairOptions:
    options = dict(data=str(folder), out=str(out), batch_size=12, epochs=1)
    return PairOptions(teacher, student, **{**options, **more})


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], str]:
    """Run tools/train.py in this process; give its log."""

    def call(config: Path) -> str:
        options = [*FAST, 'default_hooks.logger.interval=1']
        line = [str(config), '--work-dir', str(tmp_path / 'work'), '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', ['train.py', *line])
        runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')
        (log,) = (tmp_path / 'work').glob('*/*.log')
        return log.read_text()

    return call


def test_letkd2_trains(train: Callable, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'far away' / 'pair.py'
    make_config(pair_options(folder, out, student='mobilenet-v2_8xb32_in1k', image_size=64))
    output = train(out)
    assert "Fitting the decisions ['inter', 'penult']" in output
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\].*loss_inter: \d.*loss_penult: \d', output)
    assert 'accuracy/top1' in output
    state = read_checkpoint(tmp_path / 'work' / 'epoch_1.pth')['state_dict']
    assert state['architecture.kd_layers.inter.templates.weight'].shape == (24, 160, 1, 1)


def test_letkd1_of_one_output_of_a_tuple_trains(
    train: Callable, folder: Path, tmp_path: Path
) -> None:
    out, teacher_out = tmp_path / 'pair.py', tmp_path / 'teachers' / 'teacher.py'
    # One output of a tuple on both sides: no module of these gives just the last map.
    options = dict(
        teacher='van-tiny_3rdparty_in1k',
        student='van-tiny_3rdparty_in1k',
        image_size=64,
        letkd1=True,
        teacher_out=str(teacher_out),
        teacher_init='none',
    )
    make_config(pair_options(folder, out, **options))
    cfg = Config.fromfile(out)
    layer = cfg.model.distiller.kd_layers.penult
    assert (layer.module, layer.output_index) == ('backbone', 0)
    assert (layer.teacher, layer.teacher_index) == ('backbone', 0)
    assert 'AdamW' in out.read_text()
    output = train(out)
    assert "Fitting the decisions ['penult']" in output
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\].*loss_penult: \d', output)
    assert 'accuracy/top1' in output
    teacher = Config.fromfile(teacher_out)
    assert teacher.model == cfg.model.teacher
    assert teacher.custom_hooks == [dict(type='mmkdlayer.PreemptionHook')]


def test_what_is_in_a_config(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'pair.py'
    pair = make_config(
        pair_options(folder, out, teacher='resnet34_8xb16_cifar10', epochs=None, batch_size=None)
    )
    cfg = Config.fromfile(out)
    assert cfg.model.distiller.to_dict() == dict(
        type='mmkdlayer.KDLayerDistiller',
        kd_layers=dict(
            inter=dict(
                module='backbone.layer4.0',
                in_channels=512,
                teacher='backbone.layer4.0',
                decision=dict(
                    type='mmkdlayer.SubclassDecision',
                    num_classes=3,
                    num_subclasses=8,
                    num_components=2,
                ),
            ),
            # 24 images of 4x4 positions, 16 positions a centroid: 24, and 16 is the power of two below.
            penult=dict(
                module='backbone.layer4',
                in_channels=512,
                teacher='backbone.layer4',
                decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=16),
            ),
        ),
    )
    assert pair.kd_layers == cfg.model.distiller.kd_layers
    # the hooks and the seed of this repository's own configs
    runtime = Config.fromfile(ROOT / 'configs' / '_base_' / 'runtime.py')
    for key in ('custom_imports', 'custom_hooks', 'default_hooks', 'randomness', 'env_cfg'):
        assert cfg[key] == runtime[key]
    for role in ('teacher', 'architecture'):
        assert cfg.model[role].head.num_classes == 3
    assert cfg.val_evaluator.topk == (1,)
    assert cfg.data_preprocessor.num_classes == 3
    assert cfg.data_preprocessor.mean == [125.307, 122.961, 113.8575]  # the teacher's
    assert cfg.optim_wrapper.optimizer.lr == 0.05
    assert cfg.train_cfg.max_epochs == 240
    assert cfg.train_dataloader.dataset.data_root == str(folder)
    text = out.read_text()
    assert max(map(len, text.splitlines())) <= 105
    place = 'backbone.layer4.0 (512 x 4x4)'
    assert f'# inter: student {place}, teacher {place}; 24 templates' in text
    assert '# Weights of the teacher' in text


def test_overrides(folder: Path, tmp_path: Path) -> None:
    out, root = tmp_path / 'pair.py', tmp_path / 'data'
    shutil.copytree(folder, root)
    shutil.copytree(folder / 'val', root / 'test')
    options = dict(
        inter='backbone.layer3.1',
        teacher_inter='backbone.layer2',
        teacher_penult='backbone:0',
        num_subclasses=2,
        num_centroids=5,
        rate=0.5,
    )
    make_config(pair_options(root, out, **options))
    cfg = Config.fromfile(out)
    assert cfg.val_dataloader.dataset.data_prefix == 'val'
    assert cfg.test_dataloader.dataset.data_prefix == 'test'
    inter, penult = cfg.model.distiller.kd_layers.values()
    assert (inter.module, inter.in_channels) == ('backbone.layer3.1', 256)
    assert (inter.teacher, penult.teacher) == ('backbone.layer2', 'backbone')
    assert penult.module == 'backbone.layer4'
    assert penult.teacher_index == 0
    assert 'teacher_index' not in inter
    assert inter.decision.num_subclasses == 2
    assert penult.decision.num_centroids == 5
    assert cfg.optim_wrapper.optimizer.lr == 0.5


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(teacher='resnet18_8xb16_cifar'), ('resnet18_8xb16_cifar10', 'Near matches')),
        (dict(student='mmpretrain::resnet/none.py'), ('student', 'none.py')),
        (
            dict(student='none.py'),
            ('student none.py', 'a config file, but reading it failed (FileNotFoundError'),
        ),
        (dict(teacher='blip-base_3rdparty_caption'), ('ImageClassifier', 'BlipCaption')),
        (dict(teacher='replknet-31B_3rdparty_in1k'), ('teacher', 'reading it failed')),
        (dict(teacher_ckpt='none.pth'), ('--teacher-ckpt none.pth', 'no such file')),
        (dict(teacher_init='a.pth'), ('--teacher-init a.pth', '--teacher-out FILE beside it')),
        (dict(data='none'), ('--data none', 'no such folder', 'ROOT/train/<class>')),
        (dict(teacher_inter='backbone.layer5'), ('--teacher-inter', 'backbone.layer4')),
        (dict(num_centroids=10000), ('--num-centroids', '384 positions')),
        (dict(num_subclasses=1000), ('1000 sub-classes', '--num-subclasses')),
        (dict(letkd1=True, inter='backbone.layer4.0'), ('--inter backbone.layer4.0', '--letkd1')),
        (dict(letkd1=True, teacher_inter='backbone'), ('--teacher-inter backbone', '--letkd1')),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
)
def test_refused(folder: Path, tmp_path: Path, options: dict, words: tuple) -> None:
    with pytest.raises((ConfigError, DataError)) as error:
        make_config(pair_options(folder, tmp_path / 'pair.py', **options))
    for word in words:
        assert word in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_pure_python_config_of_a_student(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / 'student.py'
    source.write_text(
        'from mmpretrain.models import (\n'
        '    GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR)\n'
        'model = dict(\n'
        '    type=ImageClassifier, backbone=dict(type=ResNet_CIFAR, depth=18),\n'
        '    neck=dict(type=GlobalAveragePooling),\n'
        '    head=dict(type=LinearClsHead, num_classes=10, in_channels=512))\n'
    )
    out = tmp_path / 'pair.py'
    make_config(pair_options(folder, out, student=str(source), image_size=32))
    assert Config.fromfile(out).model.architecture.backbone.type.endswith('ResNet_CIFAR')


def test_student_that_has_kd_layers_already(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / 'student.py'
    layer = dict(module='backbone.layer4', in_channels=512, num_templates=8)
    source.write_text(
        "_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'\n"
        f"model = dict(type='mmkdlayer.KDLayerClassifier', kd_layers=dict(penult={layer}))\n"
    )
    with pytest.raises(ConfigError, match='has KD layers already: penult'):
        make_config(pair_options(folder, tmp_path / 'pair.py', student=str(source)))
    make_config(pair_options(folder, tmp_path / 'pair.py', teacher=str(source)))  # as a teacher


def test_mixup_of_a_recipe_is_left_out_and_said_where_to_put(folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / 'student.py', tmp_path / 'pair.py'
    augments = [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    source.write_text(
        "_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'\n"
        f'model = dict(train_cfg=dict(augments={augments}))\n'
    )
    make_config(pair_options(folder, out, student=str(source)))
    text = out.read_text()
    assert 'batch_augments' not in Config.fromfile(out).data_preprocessor
    advice = re.search(r'^# (batch_augments=.*)$', text, re.MULTILINE)[1]
    assert 'left out' in text
    # What the advice says works.
    start = 'data_preprocessor = dict('
    out.write_text(text.replace(start, f'{start}{advice}, '))
    preprocessor = MODELS.build(Config.fromfile(out).data_preprocessor)
    assert [augment.alpha for augment in preprocessor.batch_augments.augments] == [0.8, 1.0]


def test_student_that_builds_but_does_not_train(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / 'student.py'
    source.write_text(
        "_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'\n"
        'model = dict(head=dict(loss=dict(class_weight=[1.0] * 10)))\n'
    )
    with pytest.raises(ConfigError, match='does not run'):
        make_config(pair_options(folder, tmp_path / 'pair.py', student=str(source)))
    assert list(tmp_path.iterdir()) == [source]


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


GRAY = """
_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
model = dict(backbone=dict(in_channels=1))
data_preprocessor = dict(mean={mean}, std={std})
"""


def test_one_channel(folder: Path, tmp_path: Path) -> None:
    out, gray = tmp_path / 'pair.py', tmp_path / 'gray.py'
    for mean, std, expected in (([33.5], [78.9], 33.5), ([10.0, 20.0, 30.0], [4.0] * 3, 20.0)):
        gray.write_text(GRAY.format(mean=mean, std=std))
        make_config(pair_options(folder, out, str(gray), str(gray), force=True))
        cfg = Config.fromfile(out)
        assert cfg.data_preprocessor.mean == [expected]
    cfg.merge_from_dict({f'train_dataloader.{key}': 0 for key in ('num_workers',)})
    cfg.train_dataloader.persistent_workers = False
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    data = model.data_preprocessor(batch)
    assert data['inputs'].shape == (12, 1, 32, 32)
    with pytest.raises(ConfigError, match='student takes images of 3 channels, the teacher of 1'):
        make_config(pair_options(folder, out, str(gray), RESNET, force=True))


def test_wrong_base(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / 'own.py'
    file.write_text("_base_ = './nowhere.py'")
    with pytest.raises(ConfigError, match='nowhere.py.*look at its _base_') as error:
        make_config(pair_options(folder, tmp_path / 'pair.py', student=str(file)))
    assert 'Near matches' not in str(error.value)


def test_webp_counts(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    shutil.copytree(folder, root)
    for file in sorted((root / 'train').glob('*/*.png'))[:9]:
        with Image.open(file) as image:
            image.save(file.with_suffix('.webp'))
        file.unlink()
    make_config(pair_options(root, tmp_path / 'pair.py'))
    cfg = Config.fromfile(tmp_path / 'pair.py')
    data = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(data) == 24
    assert tuple(data[0]['inputs'].shape) == (3, 32, 32)


def test_files_are_not_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'pair.py'
    out.write_text('mine')
    with pytest.raises(ConfigError, match='--force'):
        make_config(pair_options(folder, out))
    assert out.read_text() == 'mine'
    with pytest.raises(ConfigError, match='ends in .py'):
        make_config(pair_options(folder, tmp_path / 'pair.txt'))


def test_the_pair_of_a_config_is_no_network(folder: Path, tmp_path: Path) -> None:
    pair = str(ROOT / 'configs' / 'kdlayer' / 'resnet34_resnet18_in1k.py')
    with pytest.raises(ConfigError, match='not a distillation of two'):
        make_config(pair_options(folder, tmp_path / 'pair.py', teacher=pair))


def test_command_lists_candidates(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = str(tmp_path / 'pair.py')
    line = ['tnt-small-p16_3rdparty_in1k', RESNET, '--data', str(folder), '--image-size', '224']
    monkeypatch.setattr(sys, 'argv', ['make_config.py', *line, '--out', out])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools' / 'make_config.py'), run_name='__main__')
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert 'error: The teacher tnt-small-p16_3rdparty_in1k' in errors
    assert re.search(r'backbone\.layers\.11 +TnTLayer +.*:1 \(1, 197, 384\)', errors)
    assert 'Traceback' not in errors
    assert list(tmp_path.iterdir()) == []


def test_command_offers_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, 'argv', ['make_config.py', 'a', 'b', '--data', 'c', '--out', 'd', '--lr', '0.5']
    )
    options = runpy.run_path(str(ROOT / 'tools' / 'make_config.py'))['parse_args']()
    assert isinstance(options, argparse.Namespace)
    del options.debug
    assert PairOptions(**vars(options)) == PairOptions('a', 'b', 'c', 'd', rate=0.5)
    assert set(vars(options)) == set(PairOptions.__dataclass_fields__)


def run_command(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> None:
    line = [RESNET, RESNET, '--data', str(folder), *options]
    monkeypatch.setattr(sys, 'argv', ['make_config.py', *line])
    runpy.run_path(str(ROOT / 'tools' / 'make_config.py'), run_name='__main__')


@pytest.mark.parametrize('rate', ['-1', '0', 'nan', 'inf', 'fast'])
def test_learning_rates_that_are_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, rate: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(monkeypatch, folder, '--out', 'pair.py', f'--lr={rate}')
    assert stop.value.code == 2
    assert f"argument --lr: expected a finite number above 0, but got '{rate}'" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ('size', 'init', 'epochs'), [(None, 'none', 240), (128, 'none', 100), (None, '', 30)]
)
def test_command_says_what_comes_next(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    size: int | None,
    init: str,
    epochs: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = [] if size is None else ['--image-size', str(size)]
    start = ['--teacher-init', init] if init else []
    run_command(monkeypatch, folder, '--out', 'a.py', '--teacher-out', 'my t.py', *start, *more)
    assert Config.fromfile('my t.py').train_cfg.max_epochs == epochs
    output = capsys.readouterr().out
    checkpoint = f"'work_dirs/my t/epoch_{epochs}.pth'"
    assert "Train the teacher: python -m mmkdlayer train 'my t.py'\n" in output
    assert (
        f'python -m mmkdlayer train a.py --cfg-options model.teacher_ckpt={checkpoint}\n' in output
    )
    assert f'--teacher-ckpt {checkpoint} --force' in output
    assert ('fine-tuned from https://' in output) == (not init)
    assert ('Hint: The teacher starts from scratch' in output) == bool(init)
    run_command(monkeypatch, folder, '--out', 'b.py', *more)
    assert '--teacher-out TEACHER_FILE --force' in capsys.readouterr().out


def test_command_hints_at_maps_of_few_positions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run_command(monkeypatch, folder, '--out', str(tmp_path / 'a.py'), '--image-size', '16')
    output = capsys.readouterr().out
    assert 'Hint: penult: the map is only 2x2' in output
    assert '--image-size than 16' in output


class TestDataFolder:
    def test_counts(self, folder: Path) -> None:
        data = read_data_folder(os.path.relpath(folder))
        assert data.root == str(folder)
        assert data.classes == ['class_0', 'class_1', 'class_2']
        assert (data.images, data.fewest, data.val, data.test) == (24, 8, 'val', 'val')

    def test_val_and_test(self, folder: Path, tmp_path: Path) -> None:
        root = tmp_path / 'data'
        shutil.copytree(folder, root)
        shutil.copytree(folder / 'val', root / 'test')
        data = read_data_folder(str(root))
        assert (data.val, data.test, len(data.classes)) == ('val', 'test', 3)

    def test_classes_that_differ_would_shift_the_labels(self, folder: Path, tmp_path: Path) -> None:
        root = tmp_path / 'data'
        shutil.copytree(folder, root)
        shutil.rmtree(root / 'val' / 'class_1')
        with pytest.raises(DataError, match='class_1'):
            read_data_folder(str(root))

    def test_hidden_folder_is_a_class_for_mmpretrain(self, folder: Path, tmp_path: Path) -> None:
        root = tmp_path / 'data'
        shutil.copytree(folder, root)
        (root / 'train' / '.cache').mkdir()
        with pytest.raises(DataError, match='hidden folder .*/train/.cache'):
            read_data_folder(str(root))
        (root / 'val' / '.cache').mkdir()
        with pytest.raises(DataError, match='hidden folder .*/train/.cache'):
            read_data_folder(str(root))

    def test_images_that_are_not_split(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(
            DataError, match=r"the folders \['class_0', .*To split .*docs/datasets.md"
        ):
            read_data_folder(str(folder / 'train'))
        for split in ('train', 'val'):
            shutil.copytree(folder / split / 'class_0', tmp_path / split / 'class_0')
        with pytest.raises(DataError, match='expected two classes or more, but train/ has 1'):
            read_data_folder(str(tmp_path))

    def test_class_without_images(self, folder: Path, tmp_path: Path) -> None:
        root = tmp_path / 'data'
        shutil.copytree(folder, root)
        for split in ('train', 'val'):
            (root / split / 'class_3').mkdir()
        with pytest.raises(DataError, match="'class_3'"):
            read_data_folder(str(root))


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


def test_classes_are_set_wherever_they_are_stated() -> None:
    model = load_network('vgg11bn_8xb32_in1k', 'teacher', 3).model
    assert model['backbone']['num_classes'] == 3
    assert model['head']['topk'] == (1,)
    model = dict(
        backbone=dict(num_classes=-1), head=dict(num_classes=9, losses=[dict(num_classes=9)])
    )
    assert adapt(model, 7) == dict(
        backbone=dict(num_classes=-1), head=dict(num_classes=7, losses=[dict(num_classes=7)])
    )


def test_networks() -> None:
    by_name = load_network('resnet18_8xb32_in1k', 'teacher', 1000)
    by_path = load_network('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'teacher', 1000)
    assert by_name.model == by_path.model
    assert by_name.weights.startswith('https://')
    assert by_path.weights is None
    assert by_name.image_size == 224
    # weights for other classes are of no use
    assert load_network('resnet18_8xb32_in1k', 'teacher', 3).weights is None
    # VGG's classifier, and so its classes, are in the backbone
    assert load_network('vgg11bn_8xb32_in1k', 'teacher', 1000).weights is not None
    assert load_network(RESNET, 'teacher', 10).image_size == 32
