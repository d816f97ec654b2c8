"""The catalogue's files: a page for people, and metafiles in the host libraries' conventions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from mmkdlayer.errors import ConfigError

from .costs import Cost
from .entries import Entry
from .published import ABLATION, COST, DATASETS, FIGURES, MARK, NAMES, TITLE, URL

COMMAND = 'python tools/make_catalogue.py'
README = 'configs/kdlayer/README.md'
METAFILE = 'configs/kdlayer/metafile.yml'
MODEL_INDEX = 'model-index.yml'
ABLATION_PAIR = 'resnet56_resnet20_cifar100'
COLLECTION = 'letKD'


def render_pages(entries: list[Entry], root: Path) -> dict[str, str]:
    """Text of every file of the catalogue, by path from the repository's root.

    Args:
        entries: All pairs' configs.
        root: The repository.
    """
    return {
        README: _readme(entries, root),
        METAFILE: _yaml(_metafile(entries)),
        MODEL_INDEX: _yaml({'Import': [METAFILE]}),
    }


def _yaml(content: dict) -> str:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return f'# Written by {COMMAND}; do not edit.\n{text}'


def _metafile(entries: list[Entry]) -> dict[str, Any]:
    data = [dataset.name for dataset in DATASETS.values()]
    collection = {
        'Name': COLLECTION,
        'Metadata': {
            'Training Data': data,
            'Training Techniques': ['SGD with Nesterov momentum', 'Knowledge distillation'],
            'Architecture': ['KD layer'],
        },
        'Paper': {'Title': TITLE, 'URL': URL},
        'README': README,
    }
    return {'Collections': [collection], 'Models': [_model(entry) for entry in entries]}


def _model(entry: Entry) -> dict[str, Any]:
    cost, figures = entry.cost, entry.figures
    metadata: dict[str, Any] = {
        'Training Data': entry.dataset.name,
        'Epochs': entry.epochs,
        'Batch Size': entry.batch_size,
        'FLOPs': cost.flops + cost.kd_flops,
        'Parameters': cost.parameters + cost.kd_parameters,
        'FLOPs without KD layers': cost.flops,
        'Parameters without KD layers': cost.parameters,
        'Method': entry.method,
        'Student': NAMES[entry.student],
        'Teacher': NAMES[entry.teacher],
    }
    if '://' in entry.checkpoint:
        metadata['Teacher Weights'] = entry.checkpoint
    model: dict[str, Any] = {'Name': entry.name, 'In Collection': COLLECTION, 'Metadata': metadata}
    if figures is not None and entry.accuracy is not None:
        metadata['Accuracies'] = MARK
        metadata['Teacher Metrics of the Paper'] = _metrics(figures.teacher)
        metadata['Student Alone Metrics'] = _metrics(figures.student)
        result = {
            'Task': 'Image Classification',
            'Dataset': entry.dataset.name,
            'Metrics': _metrics(entry.accuracy),
            'Source': MARK,
        }
        model['Results'] = [result]
    model['Config'] = f'configs/kdlayer/{entry.name}.py'
    return model


def _metrics(accuracy: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(('Top 1 Accuracy', 'Top 5 Accuracy'), accuracy))


def _readme(entries: list[Entry], root: Path) -> str:
    parts = [
        '# Pairs of teacher and student',
        f'Written by `{COMMAND}` from the configs; do not edit.',
        f'letKD-1 has a KD layer before pooling, letKD-2 also one after the first block of the last '
        f'stage ([{TITLE}]({URL}), BMVC 2023). Train one with `python tools/train.py CONFIG` '
        '(ImageNet: `bash tools/dist_train.sh CONFIG 8`, 8 processes of 32 images; with other numbers '
        'add `--auto-scale-lr`); '
        '[docs/datasets.md](../../docs/datasets.md) says how to get data and teachers, and '
        '`python tools/make_config.py` writes the config of any other pair.',
        '## Accuracy, quoted from the paper',
        f'**All accuracies on this page (in percent) are {MARK}.** What was re-run with this code is '
        'in the [main README](../../README.md#results).',
    ]
    for data, dataset in DATASETS.items():
        parts += [f'### {dataset.name} ({dataset.note})', _accuracy_table(entries, data)]
    parts += [
        'The paper calls the student of its second ImageNet pair "MNV2". Its published code builds a '
        "MobileNetV1, and the figure of the student alone is a MobileNetV1's: its row is ResNet-50 → "
        'MobileNetV1 here. The pair that it names is here too; no published figure belongs to it.',
        "On ImageNet the configs take mmpretrain's teachers from the model zoo, which are other weights "
        "than the paper's: mmpretrain states 73.62/91.59 for its ResNet-34 and 76.55/93.06 for its "
        'ResNet-50. '
        "torchvision's come in with `python tools/convert_teacher.py torchvision SRC DST`.",
        '### Ablation, CIFAR-100, ResNet-56 → ResNet-20',
        _ablation_table(),
        '## Cost of the KD layers, measured',
        'Parameters, and FLOPs for one image at inference, of the student alone and with the KD layers '
        "of each variant. FLOPs are counted as mmengine's get_model_complexity_info does: "
        'multiply-adds, and two for '
        'each value that a batch norm gives. A KD layer with K templates on a map (C, H, W) has '
        '2·K·C + 2·K + 2 parameters and 2·K·C·H·W + 2·K·H·W FLOPs.',
        _cost_table(entries),
        f'The paper states the cost as time: {COST}. {_cost_range(entries)} '
        'Time and FLOPs are different measures: the KD layers are two large 1x1 convolutions each, '
        'beside networks of many small layers. Nothing was timed on a GPU here; on a device that is '
        'bound by arithmetic, expect the FLOPs.',
        '## Other configs in this folder',
        _other_configs(entries, root),
    ]
    return '\n\n'.join(parts) + '\n'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines: list[Iterable[str]] = [titles, ['---'] * len(titles), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _percent(value: tuple[float, ...] | None) -> str:
    return '–' if value is None else ' / '.join(f'{number:.2f}' for number in value)


def _pair_title(entry: Entry) -> str:
    return f'{NAMES[entry.teacher]} → {NAMES[entry.student]}'


def _accuracy_table(entries: list[Entry], data: str) -> str:
    head = ('pair', 'teacher', 'student alone', 'KD', 'QUEST', 'letKD-1', 'letKD-2', 'configs')
    names = {entry.name for entry in entries}
    rows = []
    for entry in entries:
        if entry.data != data or entry.one_layer:
            continue
        figures = FIGURES.get(entry.pair) or [None] * 6
        links = f'[letKD-2]({entry.name}.py)'
        if f'{entry.name}_letkd1' in names:
            links = f'[letKD-1]({entry.name}_letkd1.py), {links}'
        rows.append([_pair_title(entry), *map(_percent, figures), links])
    return _table(head, rows)


def _ablation_table() -> str:
    rows = []
    for name, title, accuracy in ABLATION:
        link = f'[{name}](../ablation/{ABLATION_PAIR}_{name}.py)'
        rows.append([link, title, _percent(None if accuracy is None else (accuracy,))])
    return _table(('config', 'what it is', 'top-1, quoted'), rows)


def _more(alone: int, added: int) -> str:
    return f'{(alone + added) / 1e6:.2f} (+{100 * added / alone:.0f}%)'


def _cost_table(entries: list[Entry]) -> str:
    """One row for each student on each data set; the layers do not depend on the teacher."""
    found: dict[tuple[str, str], dict[str, Cost]] = {}
    for entry in entries:
        costs = found.setdefault((entry.student, entry.data), {})
        if costs.setdefault(entry.method, entry.cost) != entry.cost:
            raise ConfigError(
                f'{entry.name}: expected its student to cost what it costs in other pairs, but found '
                f'{entry.cost} and {costs[entry.method]}. Use the same network and sizes.'
            )
    rows = []
    for (student, data), costs in found.items():
        one, two = costs['letKD-1'], costs['letKD-2']
        rows.append(
            [
                NAMES[student],
                DATASETS[data].name,
                f'{one.parameters / 1e6:.2f}',
                _more(one.parameters, one.kd_parameters),
                _more(two.parameters, two.kd_parameters),
                f'{one.flops / 1e6:.2f}',
                _more(one.flops, one.kd_flops),
                _more(two.flops, two.kd_flops),
            ]
        )
    head = ['student', 'data']
    for unit in ('parameters (M)', 'FLOPs (M)'):
        head += [f'{unit}, alone', 'with letKD-1', 'with letKD-2']
    return _table(head, rows)


def _cost_range(entries: list[Entry]) -> str:
    def shares(one_layer: bool) -> str:
        found = [
            100 * entry.cost.kd_flops / entry.cost.flops
            for entry in entries
            if entry.one_layer == one_layer
        ]
        return f'{min(found):.0f}% to {max(found):.0f}%'

    return (
        f'Counted in FLOPs, as above, it is {shares(True)} more for letKD-1 (K = 4096) and '
        f'{shares(False)} for letKD-2.'
    )


def _other_configs(entries: list[Entry], root: Path) -> str:
    names = {entry.name for entry in entries}
    lines = []
    for path in sorted((root / README).parent.glob('*.py')):
        if path.stem not in names:
            title = path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')
            lines.append(f'- [{path.name}]({path.name}): {title}')
    return '\n'.join(lines)
