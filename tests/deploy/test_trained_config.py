"""The config that a checkpoint was trained with, against the one that is given."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from mmengine.config import Config

from mmkdlayer.deploy import ExportOptions, check_trained_config, export_student
from mmkdlayer.deploy.trained_config import parse_config
from mmkdlayer.errors import ConfigError


@pytest.fixture
def recorded(training):
    """A checkpoint as mmengine writes it, with the config of its training."""
    content = torch.load(training.checkpoint, weights_only=False)
    content['meta']['cfg'] = training.cfg.pretty_text
    torch.save(content, training.checkpoint)
    return training


CHANGES = {
    'network': (
        lambda cfg: cfg.model.architecture.backbone.update(strides=(1, 2, 1)),
        r'model\.backbone\.strides\.2 is 1 here and was 2',
    ),
    'alpha': (
        lambda cfg: cfg.model.distiller.kd_layers.penult.update(alpha=0.25),
        r'model\.kd_layers\.penult\.alpha is 0\.25 here and was 0\.5',
    ),
    'default alpha': (
        lambda cfg: cfg.model.distiller.kd_layers.inter.update(alpha=0.25),
        r'model\.kd_layers\.inter\.alpha is 0\.25 here and was 1\.0',
    ),
    'place': (
        lambda cfg: cfg.model.distiller.kd_layers.penult.update(module='backbone.layer3.0'),
        r"kd_layers\.penult\.module is 'backbone\.layer3\.0' here and was 'backbone\.layer3'",
    ),
    'no layer': (
        lambda cfg: cfg.model.distiller.kd_layers.pop('penult'),
        r'kd_layers\.penult is not there here and was',
    ),
    'mean': (
        lambda cfg: cfg.update(data_preprocessor=dict(mean=[1, 2, 3], std=[1, 1, 1])),
        r'model\.data_preprocessor\.mean is \[1, 2, 3\] here and was not there',
    ),
    'size': (
        lambda cfg: cfg.test_dataloader.dataset.pipeline[1].update(scale=32),
        r'test_pipeline\.1\.scale is 32 here and was 16',
    ),
    'step': (
        lambda cfg: cfg.test_dataloader.dataset.pipeline.pop(1),
        r'test_pipeline is \[.*here and was \[',
    ),
}


@pytest.mark.parametrize(('change', 'message'), CHANGES.values(), ids=CHANGES)
def test_a_config_that_makes_another_student_is_refused(change, message, recorded, tmp_path):
    change(recorded.cfg)
    with pytest.raises(
        ConfigError, match=rf'epoch_2\.pth was trained with another.*{message}.*--con'
    ):
        export_student(recorded.cfg, recorded.checkpoint, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_on_request_it_is_used(recorded, tmp_path):
    recorded.cfg.test_dataloader.dataset.pipeline[1].scale = 32
    options = ExportOptions(config_as_given=True)
    export_student(recorded.cfg, recorded.checkpoint, tmp_path / 'out', options)
    assert Config.fromfile(tmp_path / 'out' / 'student.py').image_shape == [3, 32, 32]


def test_what_is_for_training_alone_may_differ(recorded, tmp_path):
    cfg = recorded.cfg
    cfg.work_dir, cfg.train_cfg = 'elsewhere', None
    cfg.model.teacher.backbone.depth = 34
    cfg.model.teacher_ckpt = 'gone.pth'
    cfg.model.architecture.backbone.update(
        init_cfg=dict(type='Pretrained', checkpoint='gone.pth'), norm_eval=True
    )
    cfg.model.architecture.head.loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1)
    cfg.test_dataloader.dataset.data_root = '/other/place'
    cfg.test_dataloader.dataset.pipeline[0].update(type='mmcv.LoadImageFromFile', backend_args=None)
    cfg.model.distiller.kd_layers.penult.decision.temperature = 3.0
    cfg.model.architecture.backbone.type = (
        'mmpretrain.models.ResNet_CIFAR'  # as lazy configs have it
    )
    cfg.model.architecture.backbone.strides = [1, 2, 2]
    cfg.model.distiller.kd_layers.inter.alpha = 1
    export_student(cfg, recorded.checkpoint, tmp_path / 'out')


def test_the_config_of_an_export_fits_the_checkpoint(recorded, tmp_path):
    export_student(recorded.cfg, recorded.checkpoint, tmp_path / 'out')
    exported = Config.fromfile(tmp_path / 'out' / 'student.py')
    meta = torch.load(recorded.checkpoint, weights_only=False)['meta']
    check_trained_config(exported, meta, recorded.checkpoint)


@pytest.mark.parametrize(
    'text',
    [
        *('import os', 'a = os.getcwd()', 'a = (', 'model = 3', '', None, 5),
        *(f'a = {"-" * 100000}1', f'a{".a" * 100000} = 1', '[' * 100000),
    ],
    ids=range(10),
)
def test_a_record_that_tells_nothing_is_no_obstacle(text, training):
    check_trained_config(training.cfg, dict(cfg=text), training.checkpoint)


def test_nothing_of_the_record_is_run(tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    for text in (f'a = {code}', f'a = dict(b={code})', f'a = [{code}]', f'a = dict(**{code})'):
        with pytest.raises(ValueError):
            parse_config(text)
    assert not (tmp_path / 'ran').exists()


def test_what_mmengine_writes_is_read():
    cfg = dict(
        a=dict(b=[1, (2.5, -3), dict(c=None)], d={'e f': True, 'g': {}}),
        h='x\n"y\'',
        i=float('inf'),
        j=[],
        k=(1,),
        l=-1e-5,
        m={1: 'n'},
    )
    assert parse_config(Config(copy.deepcopy(cfg)).pretty_text) == cfg


@pytest.mark.parametrize('where', ['class', 'decision', 'config'])
def test_a_record_imports_nothing(where, recorded, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'evil_record.py').write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    cfg = copy.deepcopy(recorded.cfg)
    if where == 'class':
        cfg.model.architecture.type = 'evil_record.Classifier'
    elif where == 'decision':
        cfg.model.distiller.kd_layers.inter.decision.type = 'evil_record.Decision'
    else:
        cfg.model.architecture.cfg_path = f'mmpretrain::../../../../..{tmp_path}/evil_record.py'
    check_trained_config(recorded.cfg, dict(cfg=cfg.pretty_text), recorded.checkpoint, refuse=False)
    assert not (tmp_path / 'ran').exists() and 'evil_record' not in sys.modules
