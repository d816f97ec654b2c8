#!/usr/bin/env python
"""Write what follows from the page of pairs: its tables of costs, metafile.yml and model-index.yml.

The page, configs/kdlayer/README.md, is written by hand but for the tables of costs. Its tables of
accuracies are the one place where the paper's figures stand; the metafile is made of them, of the
configs that they link to, and of the measured costs.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from student_costs import BUDGET, Cost, measure_once, within_budget

import mmkdlayer  # noqa: F401  (makes the host libraries work, registers this plugin)
from mmkdlayer.deploy import student_model_config

ROOT = Path(__file__).resolve().parents[1]
COMMAND = 'python .dev_scripts/catalogue.py'
FOLDER = 'configs/kdlayer'
#: What "mim download" shows, which ends in a KeyError where a model has no weights.
NO_WEIGHTS = 'no weights are published for these models: train them with mim train mmkdlayer CONFIG'
README, METAFILE, MODEL_INDEX = f'{FOLDER}/README.md', f'{FOLDER}/metafile.yml', 'model-index.yml'
BEGIN, END = f'<!-- Written by {COMMAND}: -->\n', '<!-- to here -->'
LINK = re.compile(r'\[(letKD-[12])\]\((\S+)\.py\)')
QUOTED = 'quoted from the paper (BMVC 2023, arXiv 2309.02843), not measured with this code'
#: Name as in the host's metafiles, side of the images; by the last part of a config's name.
DATASETS = {
    'cifar100': ('CIFAR-100', 32),
    'tinyimagenet': ('Tiny-ImageNet', 64),
    'in1k': ('ImageNet-1k', 224),
}


@dataclass(frozen=True)
class Entry:
    """A pair's config in a row of the page: top-1 accuracies in percent (top-1, top-5 on ImageNet)."""

    name: str
    method: str
    teacher: str
    student: str
    dataset: str
    teacher_accuracy: tuple[float, ...]
    student_accuracy: tuple[float, ...]
    accuracy: tuple[float, ...]
    config: Config
    cost: Cost


def check_complete(page: str, folder: Path) -> None:
    """Exit with the names of configs that no table of accuracies links to."""
    pair = re.compile(rf'[^_]+_[^_]+_({"|".join(DATASETS)})(_letkd1)?')
    configs = {path.stem for path in folder.glob('*.py') if pair.fullmatch(path.stem)}
    left_out = sorted(configs - {name for _, name in LINK.findall(page)})
    if left_out:
        sys.exit(f'{README}: no row of it links to {", ".join(left_out)}. Add each to a table.')


def read_entries(page: str, folder: Path) -> list[Entry]:
    """Every config that the page's tables of accuracies link to, in their order, measured.

    Args:
        page: Text of the page, or some of its lines.
        folder: Where the configs are.
    """
    entries = []
    known: dict[str, tuple[dict, Cost]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        links = LINK.findall(line)[::-1]  # letKD-2 is the pair's main config
        if not line.startswith('|') or not links:
            continue
        teacher, student = cells[0].split(' → ')
        figures = [tuple(map(float, re.findall(r'[\d.]+', cell))) for cell in cells[1:-1]]
        for method, name in links:
            dataset, side = DATASETS[name.replace('_letkd1', '').rpartition('_')[2]]
            config = Config.fromfile(folder / f'{name}.py')
            entries.append(
                Entry(
                    name,
                    method,
                    teacher,
                    student,
                    dataset,
                    teacher_accuracy=figures[0],
                    student_accuracy=figures[1],
                    accuracy=figures[{'letKD-1': 4, 'letKD-2': 5}[method]],
                    config=config,
                    cost=measure_once(student_model_config(config), side, known),
                )
            )
    return entries


def render(page: str, entries: list[Entry]) -> dict[str, str]:
    """Text of every written file, by path from the repository's root."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    index = {'Import': [METAFILE]}
    return {
        README: f'{before}{BEGIN}\n{cost_tables(entries)}\n\n{END}{after}',
        METAFILE: _yaml(metafile(entries)),
        MODEL_INDEX: _yaml(index),
    }


def _yaml(content: dict) -> str:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return f'# Written by {COMMAND}; do not edit.\n{text}'


def cost_tables(entries: list[Entry]) -> str:
    """One row for each student on each data set; the layers do not depend on the teacher."""
    students: dict[tuple[str, str], dict[str, Entry]] = {}
    for entry in entries:
        methods = students.setdefault((entry.student, entry.dataset), {})
        cost = methods.setdefault(entry.method, entry).cost
        if cost != entry.cost:
            sys.exit(f'{entry.name}: {entry.student} costs {cost} in other pairs.')
    lines = []
    for title, unit in (('Parameters', 'parameters'), ('FLOPs', 'flops')):
        head = ['student', 'data', 'alone, or alphas 0 and folded', 'letKD-1', 'letKD-2']
        head += ['letKD-2, folded', f'within {BUDGET}%, folded', f'fed forward within {BUDGET}%']
        rows = [head, ['---'] * len(head)]
        rows += [[*names, *_costs(found, unit)] for names, found in students.items()]
        lines += [f'### {title}, in millions', '', *(f'| {" | ".join(row)} |' for row in rows), '']
    ranges = []
    units = ('letKD-1', 'flops'), ('letKD-2', 'flops'), ('letKD-2', 'folded_flops')
    for method, unit in units:
        added = [100 * e.cost.added(unit) / e.cost.flops for e in entries if e.method == method]
        ranges.append(f'{min(added):.0f}% to {max(added):.0f}%')
    shares = 'Counted in FLOPs, letKD-1 (K = 4096) adds {}, and letKD-2 {} (folded {}).'
    return '\n'.join([*lines, shares.format(*ranges)])


def _costs(found: dict[str, Entry], unit: str) -> list[str]:
    """The cells of a student's row: parameters or FLOPs, by the name of the unit."""
    one, two = found.get('letKD-1'), found['letKD-2']
    sizes, parameters = within_budget(two.cost, two.config.model.architecture.head.num_classes)
    alone = getattr(two.cost, unit)
    added = [
        one.cost.added(unit) if one else None,
        two.cost.added(unit),
        two.cost.added(f'folded_{unit}'),
        sizes.cost if unit == 'flops' else parameters,
    ]
    cells = [
        f'{(alone + a) / 1e6:.2f} (+{100 * a / alone:.0f}%)' if a is not None else '–'
        for a in added
    ]
    size = dict(inter=f'M = {sizes.num_subclasses}', penult=f'K = {sizes.num_centroids}')
    fed = ', '.join(f'{layer} ({size[layer]})' for layer in sizes.fed_forward) or 'neither'
    return [f'{alone / 1e6:.2f}', *cells, fed]


def metafile(entries: list[Entry]) -> dict[str, Any]:
    """The models in the host libraries' form."""
    collection = {
        'Name': 'letKD',
        'Metadata': {
            'Training Data': [name for name, _ in DATASETS.values()],
            'Training Techniques': [
                'SGD with Nesterov momentum',
                'AdamW',
                'Knowledge distillation',
            ],
            'Architecture': ['KD layer'],
        },
        'Paper': {
            'Title': 'Knowledge Distillation Layer that Lets the Student Decide',
            'URL': 'https://arxiv.org/abs/2309.02843',
        },
        'README': README,
    }
    return {'Collections': [collection], 'Models': [_model(entry) for entry in entries]}


def _model(entry: Entry) -> dict[str, Any]:
    cost, config = entry.cost, entry.config
    metadata: dict[str, Any] = {
        'Training Data': entry.dataset,
        'Epochs': config.train_cfg.max_epochs,
        'Batch Size': config.auto_scale_lr.base_batch_size,
        'FLOPs': cost.flops + cost.added('flops'),
        'Parameters': cost.parameters + cost.added('parameters'),
        'FLOPs without KD layers': cost.flops,
        'Parameters without KD layers': cost.parameters,
        'Method': entry.method,
        'Student': entry.student,
        'Teacher': entry.teacher,
    }
    if '://' in config.model.teacher_ckpt:
        metadata['Teacher Weights'] = config.model.teacher_ckpt
    model: dict[str, Any] = {'Name': entry.name, 'In Collection': 'letKD', 'Metadata': metadata}
    if entry.accuracy:
        metadata['Accuracies'] = QUOTED
        metadata['Teacher Metrics of the Paper'] = _metrics(entry.teacher_accuracy)
        metadata['Student Alone Metrics'] = _metrics(entry.student_accuracy)
        result = {
            'Task': 'Image Classification',
            'Dataset': entry.dataset,
            'Metrics': _metrics(entry.accuracy),
            'Source': QUOTED,
        }
        model['Results'] = [result]
    model['Config'] = f'{FOLDER}/{entry.name}.py'
    model['Weights'] = NO_WEIGHTS
    return model


def _metrics(accuracy: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(('Top 1 Accuracy', 'Top 5 Accuracy'), accuracy))


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--check', action='store_true', help='write nothing; exit code 1 if a file is out of date'
    )
    check = parser.parse_args().check
    page = (ROOT / README).read_text(encoding='utf-8')
    check_complete(page, ROOT / FOLDER)
    pages = render(page, read_entries(page, ROOT / FOLDER))
    stale = [name for name, text in pages.items() if (ROOT / name).read_text('utf-8') != text]
    if check and stale:
        sys.exit(f'out of date: {", ".join(stale)}. Run: {COMMAND}')
    for name in stale:
        (ROOT / name).write_text(pages[name], encoding='utf-8')
    print(f'wrote {", ".join(stale)}' if stale else f'{len(pages)} files are up to date')


if __name__ == '__main__':
    main()
