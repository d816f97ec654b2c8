"""Configs that tools/make_config.py writes: what is in them, that they train, what is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Callable

import pytest
from command_line import ROOT
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from pairs import RESNET, pair_options
from PIL import Image

from configuring import make_config
from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.registry import MODELS


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
