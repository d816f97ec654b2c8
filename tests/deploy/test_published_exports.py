"""The student of every config of this repository is exported, folded and loaded.

A sample here; all, in 4 minutes, with
``python -m pytest -m '' tests/deploy/test_published_exports.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from marks import slow_but
from mmengine.registry import init_default_scope

from mmkdlayer import load_student
from mmkdlayer.config_variables import read_config
from mmkdlayer.deploy import ExportOptions, FoldedKDLayer, export_student
from mmkdlayer.deploy.student_config import without_teacher
from mmkdlayer.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
ALL = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ('kdlayer', 'ablation', 'teachers', 'quickstart')
    for path in (CONFIGS / folder).glob('*.py')
    if not path.stem.startswith('_')
)
SAMPLE = [
    'kdlayer/resnet56_resnet20_tinyimagenet_letkd1.py',
    'kdlayer/folder_example.py',
    'ablation/resnet56_resnet20_cifar100_inter0_penult1.py',
    'ablation/resnet56_resnet20_cifar100_unsupervised.py',
    'teachers/resnet56_cifar100.py',
]


@pytest.fixture
def folders(tmp_path):
    """Two classes, for configs that take their classes from the folders of the data."""
    for split in ('train', 'test'):
        for name in ('ant', 'bee'):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
    return str(tmp_path / 'data')


def test_the_sample_is_of_these_configs():
    assert set(SAMPLE) <= set(ALL) and len(ALL) > 50


@pytest.mark.parametrize('name', slow_but(SAMPLE, ALL))
def test_it_is_exported_and_folded(name, tmp_path, folders):
    cfg = read_config(CONFIGS / name, data_root=folders)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(without_teacher(cfg).model)
    model = getattr(model, 'student', model)
    state = {
        key: torch.rand_like(value) + 0.5
        if key.endswith('running_var')
        else torch.randn_like(value) * 0.1
        if key.endswith(('running_mean', 'bias'))
        else value
        for key, value in model.state_dict().items()
    }
    prefix = 'architecture.' if 'architecture' in cfg.model else ''
    checkpoint = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict={prefix + k: v for k, v in state.items()}), checkpoint)
    # Nothing but the images themselves tells the size of Tiny-ImageNet's.
    size = (64, 64) if 'tinyimagenet' in name else None
    plain = export_student(cfg, checkpoint, tmp_path / 'plain', ExportOptions(input_size=size))
    assert plain['difference'] <= 1e-5
    folded = export_student(
        cfg, checkpoint, tmp_path / 'folded', ExportOptions(fold=True, input_size=size)
    )
    assert folded['difference'] <= 1e-4

    student = load_student(tmp_path / 'plain')
    assert set(student.state_dict()) == set(state)
    small = load_student(tmp_path / 'folded')
    names = set(getattr(student, 'kd_layers', {}))
    alphas = {key: student.kd_layers[key].alpha for key in names}
    left = getattr(small, 'kd_layers', {})
    assert set(left) == {key for key, alpha in alphas.items() if alpha}
    assert all(isinstance(layer, FoldedKDLayer) for layer in left.values())
    assert bool(names) == ('kd_layers' in str(cfg.model))
    text = (tmp_path / 'folded' / 'student.py').read_text()
    assert 'teacher' not in text and 'mmrazor' not in text
