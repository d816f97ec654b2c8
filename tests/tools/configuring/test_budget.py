"""KD layers within a budget: the sizes that are chosen, the config, what is said."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import pytest
import torch
from command_line import ROOT, load_tool
from mmengine.config import Config
from pairs import pair_options
from torch import nn

from configuring import make_config
from configuring.budget import MEASURED, Sizes, choose_sizes
from mmkdlayer.deploy import student_model_config
from mmkdlayer.deploy.folding import fold_student
from mmkdlayer.registry import MODELS
from studying.results import read_results
from studying.tables import accuracies

BOTH = dict(inter=10, penult=10)


@pytest.mark.parametrize(
    ('budget', 'expected'),
    [
        (1e9, Sizes(8, 4096, ('inter', 'penult'), 48960)),
        (48960, Sizes(8, 4096, ('inter', 'penult'), 48960)),
        (48959, Sizes(8, 2048, ('inter', 'penult'), 28480)),
        (10560, Sizes(8, 256, ('inter', 'penult'), 10560)),
        (10559, Sizes(4, 512, ('inter', 'penult'), 9120)),
        (4560, Sizes(2, 256, ('inter', 'penult'), 4560)),
        (4559, Sizes(4, 4096, ('inter',), 4000)),
        (1999, Sizes(8, 4096, (), 0)),
        (0, Sizes(8, 4096, (), 0)),
    ],
)
def test_sizes(budget: float, expected: Sizes) -> None:
    """With 100 classes, 10 multiply-adds a template."""
    assert choose_sizes(budget, BOTH, 100, 8, 4096) == expected


def test_sizes_of_many_classes_and_of_one_layer() -> None:
    assert choose_sizes(15000, BOTH, 1000, 8, 4096) == (8, 1024, ('penult',), 10240)
    assert choose_sizes(15000, dict(penult=10), 1000, 8, 4096) == (8, 1024, ('penult',), 10240)
    assert choose_sizes(9, dict(penult=10), 10, 8, 4096) == (8, 4096, (), 0)
    # Few images have few centroids, and few of these are not halved.
    assert choose_sizes(700, BOTH, 3, 8, 48) == (4, 48, ('inter', 'penult'), 600)


def cost_of_folded(config: Path, side: int) -> tuple[int, int]:
    """Multiply-adds of the convolutions of a student's folded KD layers, and of all else."""
    model = student_model_config(Config.fromfile(config))
    student = MODELS.build(model).eval()
    fold_student(model, student)
    costs = [0, 0]

    def count(module: nn.Module, args: tuple, output: torch.Tensor, alone: bool) -> None:
        weights = module.weight[0].numel()
        costs[alone] += output[0].numel() * weights

    for name, module in student.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            alone = not name.startswith('kd_layers')
            module.register_forward_hook(lambda *a, alone=alone: count(*a, alone=alone))
    student(torch.zeros(1, 3, side, side).requires_grad_(), mode='tensor')
    return costs[0], costs[1]


@pytest.mark.parametrize(
    ('percent', 'alphas', 'subclasses'),
    [(0.01, [0.0, 0.0], 8), (0.04, [None, 0.0], 4)],
)
def test_a_config_keeps_its_budget(
    percent: float, alphas: list, subclasses: int, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'pair.py'
    pair = make_config(pair_options(folder, out, max_extra_flops=percent))
    layers = Config.fromfile(out).model.distiller.kd_layers
    assert [layers[name].get('alpha') for name in ('inter', 'penult')] == alphas
    assert layers.inter.decision.num_subclasses == subclasses
    added, alone = cost_of_folded(out, pair.image_size)
    assert added <= percent / 100 * alone
    [said] = [reason for reason in pair.reasons if reason.startswith('Budget:')]
    assert f'add {added / 1e6:.3g} M multiply-adds' in said
    assert said.count('not fed forward') == alphas.count(0.0)
    assert 'Budget' in out.read_text()
    assert MEASURED in pair.hints


def test_what_is_said_of_accuracy_is_what_the_study_has_measured() -> None:
    results = read_results(ROOT / 'studies' / 'results' / 'photographs')
    said = (
        'sixteenth',
        'quarter',
        'letkd2',
        'fast',
        'alpha0',
        'sixteenth_alpha0',
        'alone',
        'kd',
        'dkd',
    )
    for row in said:
        mean = statistics.fmean(accuracies(results, row).values())
        assert f'{mean:.2f}' in MEASURED, f'{row} is {mean:.2f} now: correct budget.MEASURED'


def test_percentages() -> None:
    read = load_tool('make_config').percentage
    assert (read('5%'), read('0%'), read('2.5%')) == (5.0, 0.0, 2.5)
    for text in ('5', '0.05', '-1%', 'nan%', 'inf%', '%', 'few%'):
        with pytest.raises(argparse.ArgumentTypeError, match='a percentage such as 5%'):
            read(text)
