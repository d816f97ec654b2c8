"""Recipes, alone and with KD layers: each trains two steps and validates, on random images.

All configs are loaded and compared; a sample of algorithms, distillers and students is trained. All are
trained with ``python -m pytest -m '' tests/configs/test_mix_configs.py`` (6 minutes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow_but
from mix_training import changed_layers, load_offline, train_two_steps
from mmengine.config import Config
from mmengine.runner import Runner

from mmkdlayer.registry import HOOKS
from mmkdlayer.type_names import type_name

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

MIX = Path(__file__).parents[2] / 'configs' / 'mix'
NAMES = sorted(path.stem for path in MIX.glob('*.py'))
ALONE = [name for name in NAMES if not name.endswith('_kdlayer')]
MIXED = [name for name in NAMES if name.endswith('_kdlayer')]
#: Recipes that KD layers can't be added to; docs/mixing.md says why.
NOT_MIXED = ['ft_pretrain_resnet50_resnet18_cifar10']
SAMPLE = [
    'dkd_resnet34_resnet18_in1k',
    'ls_resnet32x4_resnet8x4_cifar100_kdlayer',
    'crd_resnet50_resnet18_cifar10_kdlayer',
    'ofd_wrn28-4_wrn16-2_cifar10_kdlayer',
    'dafl_resnet34_resnet18_cifar10_kdlayer',
]
#: Recipes of this package: without KD layers they are those with them, less the layers.
OURS = ('ls', 'nkd', 'wttm', 'sdd', 'reviewkd', 'simkd', 'vitkd')
COMPARED = [name for name in MIXED if name.split('_')[0] not in OURS]
COMPARED += ['reviewkd_resnet32x4_resnet8x4_cifar100_kdlayer']
CLASSES = {'cifar100': 100, 'cifar10': 10, 'in1k': 1000}


def classes_of(name: str) -> int:
    return next(count for data, count in CLASSES.items() if f'_{data}' in name)


def load(name: str) -> Config:
    return load_offline(MIX / f'{name}.py')


@pytest.mark.parametrize('name', slow_but(SAMPLE, NAMES))
def test_trains_and_validates(name: str, tmp_path: Path) -> None:
    cfg = load(name)
    _, changed = train_two_steps(cfg, classes_of(name), tmp_path)
    expected = {'penult'} if 'generator' in cfg.model else {'inter', 'penult'}
    assert changed_layers(changed) == (expected if name in MIXED else set())
    # In the first phase of factor transfer the paraphraser alone is trained.
    trained = 'distiller.' if name.startswith('ft_pretrain') else 'architecture.'
    assert any(n.startswith(trained) for n in changed)


@pytest.mark.parametrize('name', slow_but(COMPARED, MIXED))
def test_mix_adds_to_the_recipe_and_changes_nothing_of_it(name: str) -> None:
    alone, mixed = load(name.removesuffix('_kdlayer')), load(name)
    for part in ('distill_losses', 'loss_forward_mappings', 'connectors', 'teacher_recorders'):
        ours, theirs = mixed.model.distiller.get(part, {}), alone.model.distiller.get(part, {})
        kept = {key: value for key, value in theirs.items() if ours[key] is not None}
        assert {key: ours[key] for key in kept} == kept
        # Taken out is only a loss that the recipe inherits and does not use.
        assert part == 'distill_losses' or kept == theirs
        assert not (set(theirs) - set(kept)) & set(alone.model.distiller.loss_forward_mappings)
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'val_cfg'):
        assert mixed[key] == alone[key]
    assert mixed.model.type == alone.model.type
    hooks = {type_name(hook.type) for hook in mixed.custom_hooks}
    teaches = 'mmkdlayer.CentroidDecision' in str(mixed.model.distiller)
    assert ('FitDecisionsHook' in hooks) == teaches
    assert {'PreemptionHook', 'ReleaseRecordsHook'} <= hooks
    for hook in mixed.custom_hooks:
        HOOKS.build(hook)


def test_every_recipe_of_mmrazor_is_here() -> None:
    import mmrazor

    shipped = {
        path.stem
        for path in (Path(mmrazor.__file__).parent / '.mim/configs/distill/mmcls').glob('*/*.py')
    }
    assert shipped, 'this mmrazor came without its configs, which configs/mix inherits'
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
