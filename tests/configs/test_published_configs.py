"""Every published pair: the config loads, builds, trains two steps and validates on random images.

All configs are loaded and checked; a sample with every network, data set and kind is trained. All are
trained with ``python -m pytest -m '' tests/configs/test_published_configs.py`` (80 s).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from filled_decisions import fill_decisions
from marks import slow_but
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, init_default_scope
from mmpretrain.structures import DataSample

from mmkdlayer.models.kd_layer_options import parse_kd_layers
from mmkdlayer.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
#: Pairs of today's networks, for which the paper has no figures.
TODAYS = [
    'convnext-base_mobilenetv3-small_in1k',
    'deit-base_deit-tiny_in1k',
    'dinov2-small_resnet18_in1k',
    'resnet50_deit-tiny_in1k',
    'swin-base_resnet18_in1k',
    'vit-base-clip_efficientnet-b0_in1k',
]
PAIRS = sorted(
    path.stem
    for path in (CONFIGS / 'kdlayer').glob('*.py')
    if not path.stem.startswith('folder_example') and path.stem not in TODAYS
)
ABLATION = sorted(path.stem for path in (CONFIGS / 'ablation').glob('*.py'))
TEACHERS = sorted(path.stem for path in (CONFIGS / 'teachers').glob('*.py'))
SAMPLE = [
    'wrn40-2_wrn16-2_cifar100',
    'wrn40-2_wrn40-1_tinyimagenet_letkd1',
    'resnet110_resnet32_cifar100_letkd1',
    'resnet32x4_resnet8x4_cifar100',
    'wrn40-2_shufflenetv1_tinyimagenet',
    'resnet32x4_shufflenetv2_cifar100',
    'resnet50_mobilenetv2_cifar100',
    'resnet34_resnet18_in1k',
    'resnet50_mobilenetv1_in1k_letkd1',
    'resnet50_mobilenetv2_in1k_letkd1',
]
SAMPLE_ABLATION = [
    f'resnet56_resnet20_cifar100_{kind}' for kind in ('inter0', 'kd', 'unsupervised')
]
SAMPLE_TODAYS = ['resnet50_deit-tiny_in1k']
SAMPLE_TEACHERS = ['resnet56_tinyimagenet']
CLASSES = {'cifar100': 100, 'tinyimagenet': 200, 'in1k': 1000}
# ImageNet's networks are run on small images, since any size tells the same here.
SIDES = {'cifar100': 32, 'tinyimagenet': 64, 'in1k': 64}


def dataset_of(name):
    return next(data for data in CLASSES if f'_{data}' in name)


def load(folder, name):
    cfg = Config.fromfile(CONFIGS / folder / f'{name}.py')
    init_default_scope(cfg.default_scope)
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    return cfg


def run(cfg, name, side=None):
    """Two training steps and a validation; returns the losses of both steps."""
    torch.manual_seed(0)
    data = dataset_of(name)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    side = side or SIDES[data]
    images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    samples = [DataSample().set_gt_label(label) for label in (0, CLASSES[data] - 1)]
    batch = {'inputs': images, 'data_samples': samples}
    fill_decisions(model, torch.randn(2, 3, side, side))
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    logs = [model.train_step(batch, optim_wrapper) for _ in range(2)]
    model.eval()
    with torch.no_grad():
        (first, _) = model.val_step(batch)
    assert first.pred_score.shape == (CLASSES[data],)
    return model, logs


def test_every_published_pair_is_here():
    """Those of docs/method.md, section 6, and the pair that the paper names without a figure."""
    cifar = (
        'wrn40-2_wrn16-2 wrn40-2_wrn40-1 resnet56_resnet20 resnet110_resnet20 resnet110_resnet32 '
        'resnet32x4_resnet8x4 wrn40-2_shufflenetv1 resnet32x4_shufflenetv1 resnet32x4_shufflenetv2 '
        'resnet50_mobilenetv2'
    )
    tiny = 'wrn40-2_wrn16-2 wrn40-2_wrn40-1 resnet56_resnet20 wrn40-2_shufflenetv1 resnet50_mobilenetv2'
    in1k = 'resnet34_resnet18 resnet50_mobilenetv1 resnet50_mobilenetv2'
    assert set(PAIRS) == {
        f'{pair}_{data}{suffix}'
        for pairs, data in ((cifar, 'cifar100'), (tiny, 'tinyimagenet'), (in1k, 'in1k'))
        for pair in pairs.split()
        for suffix in ('', '_letkd1')
    }
    assert len(ABLATION) == 12


@pytest.mark.parametrize('name', [*PAIRS, *TODAYS])
def test_file_is_short(name):
    lines = (CONFIGS / 'kdlayer' / f'{name}.py').read_text().splitlines()
    assert len([line for line in lines if not line.startswith('#')]) <= (
        34 if name in TODAYS else 25
    )


@pytest.mark.parametrize('name', PAIRS)
def test_published_settings(name):
    cfg = load('kdlayer', name)
    data, student = dataset_of(name), name.split('_')[1]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.nesterov) == ('SGD', 0.9, True)
    slow = student.startswith(('shuffle', 'mobile'))
    assert optimizer.lr == (0.1 if data == 'in1k' else 0.01 if slow else 0.05)
    assert optimizer.weight_decay == (1e-4 if data == 'in1k' else 5e-4)
    assert cfg.train_cfg.max_epochs == (100 if data == 'in1k' else 240)
    assert list(cfg.param_scheduler.milestones) == (
        [30, 60, 90] if data == 'in1k' else [150, 180, 210]
    )
    assert cfg.train_dataloader.batch_size == (32 if data == 'in1k' else 64)

    layers = parse_kd_layers(cfg.model.distiller.kd_layers, name)
    assert set(layers) == ({'penult'} if name.endswith('_letkd1') else {'inter', 'penult'})
    special = student == 'mobilenetv2' and data != 'in1k'
    inter, penult = {'cifar100': (0.2, 0.1), 'tinyimagenet': (1, 0.5)}[data] if special else (1, 1)
    assert (layers['penult'].alpha or 1) == penult
    decision = layers['penult'].decision
    assert (decision.num_templates, decision.temperature) == (4096, 1)
    if 'inter' in layers:
        assert (layers['inter'].alpha or 1) == inter
        decision = layers['inter'].decision
        assert decision.num_templates == 8 * CLASSES[data]
        assert (decision.num_classes, decision.num_subclasses) == (CLASSES[data], 8)
        assert decision.num_components == 60


@pytest.mark.parametrize('name', slow_but(SAMPLE, PAIRS))
def test_pair(name):
    one_layer = name.endswith('_letkd1')
    model, logs = run(load('kdlayer', name), name)
    losses = {'student.loss', 'distill.loss_penult'}
    losses |= set() if one_layer else {'distill.loss_inter'}
    assert {key for key in logs[0] if 'loss' in key} - {'loss'} == losses
    assert all(torch.isfinite(value).all() for log in logs for value in log.values())
    assert set(model.student.kd_layers) == ({'penult'} if one_layer else {'inter', 'penult'})


@pytest.mark.parametrize('name', slow_but(SAMPLE_TODAYS, TODAYS))
def test_pair_of_todays_networks(name):
    model, logs = run(load('kdlayer', name), name, side=224)
    losses = {'student.loss', 'distill.loss_inter', 'distill.loss_penult'}
    assert {key for key in logs[0] if 'loss' in key} - {'loss'} == losses
    assert all(torch.isfinite(value).all() for log in logs for value in log.values())
    model.student.eval()(torch.randn(1, 3, 224, 224), mode='tensor').square().sum().backward()
    for layer in model.student.kd_layers.values():  # what they feed forward reaches the logits
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


@pytest.mark.parametrize('name', slow_but(SAMPLE_ABLATION, ABLATION))
def test_ablation(name):
    cfg = load('ablation', name)
    _, logs = run(cfg, name)
    kind = name.removeprefix('resnet56_resnet20_cifar100_')
    assert all(torch.isfinite(value).all() for log in logs for value in log.values())
    assert ('distill.loss_inter' in logs[0]) == ('inter' in kind)
    assert ('distill.loss_penult' in logs[0]) == ('penult' in kind or kind == 'quest')
    assert ('distill.loss_kd' in logs[0]) == (kind == 'kd')
    assert kind != 'unsupervised' or 'kd_layers' in cfg.model


@pytest.mark.parametrize('name', slow_but(SAMPLE_TEACHERS, TEACHERS))
def test_teacher(name):
    cfg = load('teachers', name)
    _, logs = run(cfg, name)
    assert torch.isfinite(logs[1]['loss'])


@pytest.mark.parametrize('name', TEACHERS)
def test_teacher_is_the_one_of_its_pairs(name):
    alone = load('teachers', name)
    teacher, data = name.split('_')
    pairs = [pair for pair in PAIRS if pair.startswith(f'{teacher}_') and pair.endswith(data)]
    assert pairs
    assert load('kdlayer', pairs[0]).model.teacher == alone.model
    checkpoint = Config.fromfile(CONFIGS / 'kdlayer' / f'{pairs[0]}.py').model.teacher_ckpt
    assert checkpoint == f'checkpoints/{name}.pth'


def test_hooks_of_the_runtime_exist():
    cfg = load('kdlayer', PAIRS[0])
    for hook in cfg.custom_hooks:
        assert isinstance(HOOKS.build(hook), Hook)
