"""Teachers of other libraries through fitting and training, with labels and without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from command_line import CONFIG, ROOT, Main

from mmkdlayer.models.decisions import read_decision_file

TIMM = """
_base_ = {config!r}
teacher = dict(
    _delete_=True,
    type='mmkdlayer.TeacherModule',
    source='timm:vit_tiny_patch16_224',
    input_size=48,
    arguments=dict(depth=3, embed_dim=24, num_heads=2, patch_size=8, num_classes=0),
)
layers = dict(
    inter=dict(in_channels=16, teacher={module!r}, decision=dict(num_subclasses=2)),
    penult=dict(in_channels=16, teacher='model.norm', decision=dict(num_centroids=8)),
)
student = dict(backbone=dict(stem_channels=4, base_channels=4), head=dict(in_channels=16))
model = dict(architecture=student, teacher=teacher, distiller=dict(kd_layers=layers))
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""
PRETRAINING = ROOT / 'configs' / 'pretraining' / 'dinov2-small_resnet18.py'
#: Its networks, data and schedule made as small as they get.
SMALL = {
    'image_size': 64,
    'param_scheduler': None,
    'train_cfg.max_epochs': 1,
    'train_dataloader.batch_size': 5,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'model.architecture.backbone.stem_channels': 4,
    'model.architecture.backbone.base_channels': 4,
    'model.teacher.weights': None,
    'model.teacher.input_size': 42,
    'model.teacher.arguments.depth': 9,
    'model.teacher.arguments.embed_dim': 24,
    'model.teacher.arguments.num_heads': 2,
    'model.distiller.kd_layers.inter.in_channels': 32,
    'model.distiller.kd_layers.inter.decision.num_centroids': 8,
    'model.distiller.kd_layers.penult.in_channels': 32,
    'model.distiller.kd_layers.penult.decision.num_centroids': 8,
    'default_hooks.logger.interval': 1,
}
FINE_TUNING = """
_base_ = {config!r}
small = dict(
    _delete_=True,
    type='mmkdlayer.KDLayerClassifier',
    backbone=dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32),
    kd_layers=dict(
        inter=dict(module='backbone.layer4.0', in_channels=32, num_templates=8),
        penult=dict(module='backbone.layer4', in_channels=32, num_templates=8),
    ),
)
model = small
image_size = 64
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture(autouse=True)
def _timm() -> None:
    pytest.importorskip('timm', reason='needs "pip install timm" (requirements/teachers.txt)')


def timm_config(folder: Path, module: str = 'model.blocks.1') -> Path:
    path = folder / 'timm_teacher.py'
    path.write_text(TIMM.format(config=str(CONFIG), module=module))
    return path


def logged(main: Main, tool: str, line: list[str], work: Path) -> str:
    """The newest log of a command, which must succeed."""
    code, errors = main(tool, line)
    assert code == 0, errors[-4000:]
    return max(work.glob('*/*.log'), key=lambda file: file.stat().st_mtime_ns).read_text()


def test_a_teacher_of_timm(images: Path, tmp_path: Path, main: Main) -> None:
    work = tmp_path / 'work'
    line = [str(timm_config(tmp_path)), '--work-dir', str(work), '--data-root', str(images)]
    output = logged(main, 'train.py', [*line, '--cfg-options', 'image_size=16'], work)
    assert 'Teacher timm:vit_tiny_patch16_224: VisionTransformer, images at 48x48' in output
    assert 'mean=[127.5, 127.5, 127.5]' in output
    assert re.search(r'normalisation of the teacher.*to its own .*to_rgb=True', output)
    assert 'Teacher: not measured (no scores of these classes' in output
    assert 'IS NEAR CHANCE' not in output
    assert 'Set weights of the TeacherModule' in output
    for name in ('inter', 'penult'):
        losses = re.findall(rf'distill.loss_{name}: ([\d.]+)', output)
        assert len(losses) == 4
        provenance = read_decision_file(work / 'decisions' / f'{name}.safetensors')
        data = provenance.provenance['data']
        assert data['view']['input_size'] == [48, 48]
        assert data['view']['mean'] == [127.5, 127.5, 127.5]
    # The same teacher at another size is another one for the decisions.
    options = ['image_size=16', 'model.teacher.input_size=32']
    output = logged(main, 'fit_decisions.py', [*line, '--cfg-options', *options], work)
    assert re.search(r'is not used, it is fitted again: .*data is', output)


def test_a_wrong_name(images: Path, tmp_path: Path, main: Main) -> None:
    line = [str(timm_config(tmp_path, 'blocks.1')), '--work-dir', str(tmp_path), '--data-root']
    code, errors = main('train.py', [*line, str(images), '--cfg-options', 'image_size=16'])
    assert code == 2
    assert 'has no module "blocks.1". Near matches: model.blocks.1' in errors


def test_images_without_labels(images: Path, tmp_path: Path, main: Main) -> None:
    photos = tmp_path / 'photos'
    shutil.copytree(images / 'train' / 'class_0', photos / 'more' / 'below')
    shutil.copy(images / 'train' / 'class_1' / '0.png', photos / 'one.png')
    work = tmp_path / 'work'
    options = [f'{key}={value}' for key, value in SMALL.items()]
    line = [str(PRETRAINING), '--work-dir', str(work), '--data-root', str(photos)]
    output = logged(main, 'train.py', [*line, '--cfg-options', *options], work)
    assert len(re.findall(r'distill.loss_penult: ', output)) == 2
    assert 'student.' not in output.split('Epoch(train)', 1)[1]
    assert (
        read_decision_file(work / 'decisions' / 'inter.safetensors').provenance['data']['images']
        == 11
    )

    config = tmp_path / 'finetune.py'
    config.write_text(
        FINE_TUNING.format(config=str(ROOT / 'configs/kdlayer/folder_example_teacher.py'))
    )
    checkpoint, tuned = work / 'epoch_1.pth', tmp_path / 'tuned'
    line = [str(config), '--init-from', str(checkpoint), '--work-dir', str(tuned)]
    output = logged(main, 'train.py', [*line, '--data-root', str(images)], tuned)
    loaded = re.search(r'Training begins with weights of .*', output)
    assert loaded and 'head.fc' in loaded[0] and 'kd_layers' not in loaded[0].split('stay')[-1]
    out = tmp_path / 'exported'
    line = [
        str(tuned / 'finetune.py'),
        str(tuned / 'epoch_1.pth'),
        '--out',
        str(out),
        '--data-root',
    ]
    assert main('export_student.py', [*line, str(images)])[0] == 0
    exported = torch.load(out / 'student.pth', weights_only=True)
    state = exported.get('state_dict', exported)
    assert 'kd_layers.penult.templates.weight' in state
