"""Networks with branches are exported without them: the same logits, fewer parameters."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from mmkdlayer import load_student
from mmkdlayer.deploy import ExportOptions, export_student, reparameterise

BACKBONES = dict(
    repvgg=dict(
        type='RepVGG',
        arch=dict(
            num_blocks=[1, 1, 1, 1],
            width_factor=[0.125, 0.125, 0.125, 0.0625],
            group_layer_map=None,
            se_cfg=None,
            stem_channels=8,
        ),
        out_indices=(3,),
    ),
    mobileone=dict(
        type='MobileOne',
        arch=dict(
            num_blocks=[1, 1, 1, 1],
            width_factor=[0.125, 0.125, 0.125, 0.0625],
            num_conv_branches=[2, 2, 2, 2],
            num_se_blocks=[0, 0, 0, 0],
        ),
        out_indices=(3,),
    ),
    riformer=dict(
        type='RIFormer',
        arch=dict(layers=[1, 1, 1, 1], embed_dims=[8, 12, 16, 32], mlp_ratios=[1] * 4),
        out_indices=(6,),
    ),
    repmlp=dict(
        type='RepMLPNet',
        arch=dict(channels=[8, 8, 8, 32], depths=[1, 1, 1, 1], sharesets_nums=[1, 1, 1, 1]),
        img_size=32,
        patch_size=4,
        reparam_conv_kernels=(1, 3),
        out_indices=(3,),
    ),
    replknet=dict(
        type='RepLKNet',
        arch=dict(
            large_kernel_sizes=[7, 7, 7, 7],
            layers=[1, 1, 1, 1],
            channels=[8, 8, 8, 32],
            small_kernel=3,
            dw_ratio=1,
        ),
        out_indices=(3,),
    ),
)
FLAGS = dict(replknet='small_kernel_merged')


def student_of(name: str, make_config, tmp_path, **layer: object):
    """A config and checkpoint of a classifier with one KD layer, with statistics of its own."""
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmpretrain')
    layer = dict(dict(module='backbone', output_index=0, in_channels=32, num_templates=5), **layer)
    model = dict(
        type='mmkdlayer.KDLayerClassifier',
        backbone=BACKBONES[name],
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
        kd_layers=dict(penult=layer),
    )
    cfg = make_config(model)
    cfg.test_dataloader.dataset.pipeline[1].scale = 32
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 1.5)
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'epoch_1.pth')
    return cfg, tmp_path / 'epoch_1.pth', network.eval()


@pytest.mark.parametrize('name', BACKBONES)
def test_the_branches_are_merged(name, make_config, tmp_path):
    cfg, checkpoint, trained = student_of(name, make_config, tmp_path)
    result = export_student(cfg, checkpoint, tmp_path / 'out', ExportOptions(fold=True))
    [change] = [change for change in result['changes'] if 'backbone' in change]
    assert (
        change.startswith('backbone is re-parameterised: ') and change in result['card'].read_text()
    )
    assert Config.fromfile(tmp_path / 'out' / 'student.py').model.backbone[
        FLAGS.get(name, 'deploy')
    ]
    small = load_student(tmp_path / 'out')
    count = [sum(p.numel() for p in m.backbone.parameters()) for m in (trained, small)]
    assert (count[1] < count[0] or name == 'repmlp') and change.endswith(f'become {count[1]:,}')
    images = torch.randn(3, 3, 32, 32)
    logits = trained(images)
    assert logits.abs().max() > 0.01
    torch.testing.assert_close(small(images), logits, atol=1e-4, rtol=1e-4)

    again = export_student(
        Config.fromfile(tmp_path / 'out' / 'student.py'),
        tmp_path / 'out' / 'student.pth',
        tmp_path / 'again',
    )
    assert again['changes'] == ['backbone was re-parameterised before']


def test_on_request_they_stay(make_config, tmp_path):
    cfg, checkpoint, trained = student_of('repvgg', make_config, tmp_path)
    result = export_student(cfg, checkpoint, tmp_path / 'o', ExportOptions(reparameterise=False))
    assert result['changes'] == [] and result['difference'] <= 1e-5
    assert set(load_student(tmp_path / 'o').state_dict()) == set(trained.state_dict())


def test_a_kd_layer_inside_a_branch_keeps_the_branches(make_config, tmp_path):
    place = dict(module='backbone.stage_4.0.branch_3x3', output_index=None)
    cfg, checkpoint, trained = student_of('repvgg', make_config, tmp_path, **place)
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    assert result['changes'][0].startswith(
        'backbone stays as it was trained: ConfigError: kd_layers.penult'
    )
    assert set(load_student(tmp_path / 'out').state_dict()) == set(trained.state_dict())


def test_a_network_that_can_not_say_so_keeps_its_branches(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(reparameterise, 'FLAGS', ('other',))
    cfg, checkpoint, _ = student_of('repvgg', make_config, tmp_path)
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    assert result['changes'] == ['backbone stays as it was trained: RepVGG has none of other']
