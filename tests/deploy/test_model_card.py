"""The model card tells what is known, and no more."""

from __future__ import annotations

import json
import re

import pytest
import torch
from command_line import load_tool

from mmkdlayer.checkpoints import hash_file
from mmkdlayer.deploy import ExportOptions, export_student
from mmkdlayer.deploy.model_card import _ways_of_distilling, describe_network
from mmkdlayer.errors import ConfigError, DecisionFileError

read_metrics = load_tool('export_student').read_metrics


def card(training, out, **options) -> str:
    export_student(training.cfg, training.checkpoint, out, ExportOptions(**options))
    return (out / 'model_card.md').read_text()


def rows(page: str) -> dict[str, str]:
    return dict(re.findall(r'^\| ([^|]+) \| ([^|]+) \|$', page, re.M))


def test_it_names_networks_data_and_layers(training, tmp_path):
    training.cfg.model.teacher_ckpt = str(tmp_path / 'private' / 'teacher.pth')
    training.cfg.train_dataloader.dataset.data_root = str(tmp_path / 'private' / 'animals')
    page = card(training, tmp_path / 'out')
    found = rows(page)
    assert found['student'] == 'ResNet_CIFAR (depth=18, base_channels=4)'
    assert found['distilled from'] == 'ResNet_CIFAR (depth=18, base_channels=6), teacher.pth'
    assert found['distilled by'] == 'KD layers (letKD)'
    assert 'An image classifier with KD layers (letKD, BMVC 2023), exported without' in page
    assert 'tags: [knowledge-distillation, letkd, mmkdlayer]' in page
    assert found['checkpoint'].startswith('epoch_2.pth, SHA-256')
    assert hash_file(training.checkpoint) in page
    assert found['trained on'] == 'CustomDataset, animals'
    assert found['classes'] == '3: cat, dog, owl'
    assert found['epoch'] == '2'
    assert '| inter | backbone.layer3.0 | 16 | 6 | 1.0 |' in page
    assert '| penult | backbone.layer3 | 16 | 5 | 0.5 |' in page
    assert 'None were given' in page and 'license: "unknown"' in page
    assert f'torch {torch.__version__.split("+")[0]}' in page
    assert str(tmp_path) not in page


def test_ways_of_distilling(training):
    layers = training.cfg.model.distiller.kd_layers
    losses = dict(loss_dkd=dict(type='mmrazor.DKDLoss', tau=4))
    for distiller, ways in (
        (dict(kd_layers=layers, distill_losses=losses), ['KD layers (letKD)', 'DKDLoss']),
        (dict(kd_layers={}, distill_losses=losses), ['DKDLoss']),
        (dict(kd_layers=dict(penult=dict(module='backbone', num_templates=8))), []),
        (dict(), []),
    ):
        assert _ways_of_distilling(dict(distiller=distiller)) == ways


def test_the_hashes_of_the_files_are_theirs(training, tmp_path):
    page = card(training, tmp_path / 'out', formats=('torchscript',))
    listed = dict(re.findall(r'^\| (student\.\w+) \| \d+ \| ([0-9a-f]{64}) \|$', page, re.M))
    assert set(listed) == {'student.py', 'student.pth', 'student.pt'}
    for name, digest in listed.items():
        assert hash_file(tmp_path / 'out' / name) == digest


def test_licence_and_metrics(training, tmp_path):
    metrics = {'accuracy/top1': 72.5, 'accuracy/top5': 91.0}
    (tmp_path / 'metrics.json').write_text(json.dumps(metrics))
    assert read_metrics(tmp_path / 'metrics.json') == metrics
    page = card(training, tmp_path / 'out', licence='apache-2.0', metrics=metrics)
    assert 'license: "apache-2.0"' in page
    assert '| accuracy/top1 | 72.5 |' in page and 'None were given' not in page


@pytest.mark.parametrize('content', [None, 'no json', '[1]', '{"a": "b"}', '[' * 100000])
def test_metrics_that_are_none(content, tmp_path):
    if content is not None:
        (tmp_path / 'metrics.json').write_text(content)
    with pytest.raises(ConfigError, match=r'metrics\.json: expected'):
        read_metrics(tmp_path / 'metrics.json')


@pytest.fixture
def decisions(training):
    folder = training.checkpoint.parent / 'decisions'
    for name in ('inter', 'penult'):
        decision = training.model.distiller.distill_losses[f'loss_{name}'].decision
        decision.provenance = dict(
            layer=dict(source=f'backbone.of_{name}'),
            teacher=dict(checkpoint='runs/resnet110.pth'),
            data=dict(images=12),
            date='2026-01-02T03:04',
        )
        decision.save(folder / f'{name}.safetensors')
    return folder


def test_decision_files_of_the_training_and_of_the_config(training, decisions, tmp_path):
    other = tmp_path / 'other.safetensors'
    training.model.distiller.distill_losses.loss_penult.decision.save(other)
    training.cfg.model.distiller.kd_layers.penult.decision.file = str(other)
    page = card(training, tmp_path / 'out')
    inter = decisions / 'inter.safetensors'
    line = next(line for line in page.splitlines() if line.startswith('| inter.safetensors'))
    assert 'SubclassDecision (num_classes=3,' in line
    assert 'backbone.of_inter, 12 images, 2026-01-02' in line
    assert hash_file(inter)[:16] in line
    assert '| other.safetensors | CentroidDecision' in page
    assert rows(page)['distilled from'].endswith('base_channels=6), resnet110.pth')


def test_a_damaged_decision_file_is_refused(training, decisions, tmp_path):
    file = decisions / 'inter.safetensors'
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(DecisionFileError, match=r'inter\.safetensors: .*truncated'):
        card(training, tmp_path / 'out')
    assert list((tmp_path / 'out').iterdir()) == []


HOSTILE = [
    '<script>alert(1)</script>',
    'a|b',
    'x\n\n# Licence: MIT',
    'y\r## Metrics',
    'z\u2028| w | v |',
    '[a](http://b)',
    '`c` *d* _e_ ![f](g) &lt; ~~h~~',
]


@pytest.fixture
def hostile(training, decisions):
    """A training in which every text that others may have written holds all of HOSTILE."""
    text = ' '.join(HOSTILE)
    content = torch.load(training.checkpoint, weights_only=False)
    content['meta'].update(dataset_meta=dict(classes=HOSTILE), epoch=text, iter=[text], seed=text)
    torch.save(content, training.checkpoint)
    decision = training.model.distiller.distill_losses.loss_inter.decision
    decision.provenance = dict(
        layer=dict(source=text),
        teacher=dict(checkpoint=text),
        data=dict(images=text),
        date='|\n|<b>|`|',
    )
    decision.save(decisions / 'inter.safetensors')
    dataset = training.cfg.train_dataloader.dataset
    dataset.update(data_root=f'/x/{HOSTILE[0]}{HOSTILE[2]}', split=text)
    return text


def test_texts_of_others_are_shown_as_they_are(hostile, training, tmp_path):
    harmless = card(training, tmp_path / 'before')
    metrics = {hostile: 1.0, 'accuracy/top1': 2.0}
    page = card(training, tmp_path / 'out', metrics=metrics, licence=f'mit\n{hostile}')
    text = re.sub(r'(?<!\\)`[^`\n]*`', '', page)  # code shows each sign as it is
    assert '<' not in text
    lines = [line for line in page.splitlines() if line.startswith('#')]
    assert [line for line in harmless.splitlines() if line.startswith('#')] == lines
    assert lines[:3] == ['# student', '## KD layers', '## Decision files of the training']
    tables: dict[str, set[int]] = {}
    for section in page.split('\n## ')[1:]:
        rows_of = [line for line in section.splitlines() if line.startswith('|')]
        tables[section.splitlines()[0]] = {len(re.findall(r'(?<!\\)\|', r)) for r in rows_of}
    assert tables['Metrics'] == {3} and tables['Decision files of the training'] == {5}
    assert page.split('---')[1].count('\n') == 5  # the header of YAML has its four keys
    body = text.split('---\n', 2)[2]
    signs = re.findall(r'(?<!\\)(\]\(|\*d\*|!\[|~~h|`c)', body)
    assert not signs


def test_networks_by_path_and_without_settings():
    assert describe_network(dict(cfg_path='mmpretrain::a/b.py')) == 'mmpretrain::a/b.py'
    assert describe_network(dict(backbone=dict(type='mmpretrain.VGG'))) == 'VGG'
    assert describe_network(None) == 'not stated'
