"""mmrazor's recipes, alone and with KD layers: each trains two steps and validates, on random images.

A sample with every algorithm, distiller and kind of student is run; all are with
``ALL_CONFIGS=1 python -m pytest tests/configs/test_mix_configs.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filled_decisions import fill_decisions
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import nn

from mmkdlayer.models import CentroidDecision
from mmkdlayer.registry import HOOKS

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

MIX = Path(__file__).parents[2] / 'configs' / 'mix'
NAMES = sorted(path.stem for path in MIX.glob('*.py'))
ALONE = [name for name in NAMES if not name.endswith('_kdlayer')]
MIXED = [name for name in NAMES if name.endswith('_kdlayer')]
#: Recipes that KD layers can't be added to; docs/mixing.md says why.
NOT_MIXED = ['ft_pretrain_resnet50_resnet18_cifar10']
SAMPLE = [
    'dkd_resnet34_resnet18_in1k',
    'kd_resnet50_shufflenetv2_in1k_kdlayer',
    'ab_pretrain_resnet50_resnet18_in1k_kdlayer',
    'crd_resnet50_resnet18_cifar10_kdlayer',
    'ft_pretrain_resnet50_resnet18_cifar10',
    'ofd_wrn28-4_wrn16-2_cifar10_kdlayer',
    'byot_resnet18_cifar100_kdlayer',
    'dafl_resnet34_resnet18_cifar10_kdlayer',
]
if os.environ.get('ALL_CONFIGS'):
    SAMPLE = NAMES
CLASSES = {'cifar100': 100, 'cifar10': 10, 'in1k': 1000}
IMAGES = 4


@DATASETS.register_module()
class MixImages:
    """Four random images with the first classes."""

    def __init__(self, classes: int, side: int, pipeline: list) -> None:
        self.metainfo = dict(classes=[str(label) for label in range(classes)])
        self.side = side

    def full_init(self) -> None:
        pass

    def __len__(self) -> int:
        return IMAGES

    def get_data_info(self, index: int) -> dict:
        return dict(img_path=f'{index}.png', gt_label=index)

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        shape = (3, self.side, self.side)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        sample = DataSample().set_gt_label(index)
        others = torch.randint(0, IMAGES, (6,), generator=generator)
        sample.set_data(dict(sample_idx=torch.tensor(index), contrast_sample_idxs=others))
        return dict(inputs=pixels, data_samples=sample)


class Launched(nn.Module):
    """What a launcher puts around the generator: mmrazor asks for ``generator.module``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> torch.Tensor:
        return self.module(*args)


def classes_of(name: str) -> int:
    return next(count for data, count in CLASSES.items() if f'_{data}' in name)


def load(name: str) -> Config:
    """A config without what needs a network."""
    cfg = Config.fromfile(MIX / f'{name}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.pop('init_cfg', None)
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    for teacher in cfg.model.get('teachers', {}).values():
        teacher.pop('ckpt_path')
    return cfg


def shrink(cfg: Config, name: str, work: Path) -> None:
    """Four images, two steps of two; the networks stay as they are."""
    classes = classes_of(name)
    # ImageNet's networks are run on small images, since any size tells the same here.
    data = dict(
        type='MixImages',
        _scope_='mmpretrain',
        classes=classes,
        side=64 if classes == 1000 else 32,
        pipeline=[],
    )
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key] = dict(
            batch_size=2,
            num_workers=0,
            dataset=data,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    by_epoch = cfg.train_cfg.get('by_epoch', True)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    if not by_epoch:
        cfg.train_cfg = dict(by_epoch=False, max_iters=2, val_interval=2)
    cfg.param_scheduler = None  # its steps are longer than this training
    cfg.default_hooks.pop('checkpoint')
    cfg.work_dir, cfg.experiment_name, cfg.log_level = str(work), work.name, 'ERROR'
    losses = cfg.model.distiller.distill_losses
    if 'loss_crd' in losses:  # as many images as there are
        losses.loss_crd.update(neg_num=5, sample_n=IMAGES)
    if 'generator' in cfg.model and 'loss_penult' in losses:
        file = work / 'penult.safetensors'
        CentroidDecision.from_tables(torch.randn(4096, 512)).save(file)
        losses.loss_penult.decision.file = str(file)


@pytest.mark.parametrize('name', SAMPLE)
def test_trains_and_validates(name: str, tmp_path: Path) -> None:
    cfg = load(name)
    shrink(cfg, name, tmp_path)
    runner = Runner.from_cfg(cfg)
    model, side = runner.model, 64 if classes_of(name) == 1000 else 32
    if hasattr(model, 'generator'):
        model.generator = Launched(model.generator)
    else:
        fill_decisions(model, torch.randn(2, 3, side, side))
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    runner.train()

    scalars = {key: log.data[0] for key, log in runner.message_hub.log_scalars.items()}
    mapped = model.distiller.loss_forward_mappings
    assert {f'train/distill.{loss}' for loss in mapped} <= set(scalars)
    assert all(len(scalars[f'train/distill.{loss}']) == 2 for loss in mapped)
    for key, values in scalars.items():
        assert np.isfinite(values).all() or key.endswith('time'), key
    assert [key for key in scalars if 'accuracy' in key]
    assert {type(recorder).__name__ for recorder in recorders(model)} <= {
        'ModuleOutputsRecorder',
        'ModuleInputsRecorder',
    }
    after = dict(model.named_parameters())
    changed = {n for n, p in before.items() if not torch.equal(p, after[n])}
    layers = {'.'.join(n.split('.')[:3]) for n in changed if '.kd_layers.' in n}
    expected = {'penult'} if 'generator' in cfg.model else {'inter', 'penult'}
    assert layers == (
        {f'architecture.kd_layers.{layer}' for layer in expected} if name in MIXED else set()
    )
    # In the first phase of factor transfer the paraphraser alone is trained.
    trained = 'distiller.' if name.startswith('ft_pretrain') else 'architecture.'
    assert any(n.startswith(trained) for n in changed)


def recorders(model: nn.Module) -> list:
    managers = (model.distiller.student_recorders, model.distiller.teacher_recorders)
    return [recorder for manager in managers for recorder in manager.recorders.values()]


@pytest.mark.parametrize('name', MIXED)
def test_mix_adds_to_the_recipe_and_changes_nothing_of_it(name: str) -> None:
    alone, mixed = load(name.removesuffix('_kdlayer')), load(name)
    for part in ('distill_losses', 'loss_forward_mappings', 'connectors', 'teacher_recorders'):
        ours, theirs = mixed.model.distiller.get(part, {}), alone.model.distiller.get(part, {})
        assert {key: ours[key] for key in theirs} == theirs
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'val_cfg'):
        assert mixed[key] == alone[key]
    assert mixed.model.type == alone.model.type
    hooks = {hook.type.rsplit('.')[-1] for hook in mixed.get('custom_hooks', [])}
    teaches = any(
        'TeacherDecisionLoss' in str(x) for x in mixed.model.distiller.distill_losses.values()
    )
    assert ('FitDecisionsHook' in hooks) == teaches
    for hook in mixed.get('custom_hooks', []):
        HOOKS.build(hook)


def test_every_recipe_of_mmrazor_is_here() -> None:
    import mmrazor

    shipped = {
        path.stem
        for path in (Path(mmrazor.__file__).parent / '.mim/configs/distill/mmcls').glob('*/*.py')
    }
    if not shipped:
        pytest.skip('this mmrazor came without its configs')
    inherited = {
        Path(line).stem
        for name in ALONE
        for line in (MIX / f'{name}.py').read_text().split("'")
        if line.endswith('.py')
    }
    assert shipped - inherited == {'deit-base_regnety160_pt-16xb64_in1k'}
    assert [name for name in ALONE if f'{name}_kdlayer' not in MIXED] == NOT_MIXED


@pytest.mark.parametrize('name', ['crd_resnet50_resnet18_cifar10', 'byot_resnet18_cifar100'])
def test_repaired_pipelines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of training and test differ, and reach the model's input."""
    from mmpretrain.datasets import CIFAR10

    splits = []

    def load_data_list(dataset: Any) -> list[dict]:
        splits.append(dataset.split)
        image = np.zeros((32, 32, 3), dtype=np.uint8)
        return [dict(img=image, gt_label=index % 2) for index in range(6)]

    monkeypatch.setattr(CIFAR10, 'load_data_list', load_data_list)
    cfg = load(name)
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False, batch_size=2)
        if name.startswith('crd'):
            cfg[key].dataset.update(neg_num=3, num_classes=2)
        batch = next(iter(Runner.build_dataloader(cfg[key], seed=0)))
        assert batch['inputs'][0].shape == (3, 32, 32)
        assert batch['data_samples'][0].gt_label.numel() == 1
        if name.startswith('crd') and key == 'train_dataloader':
            assert batch['data_samples'][0].contrast_sample_idxs.shape == (4,)
    assert splits == ['train', 'test']
