"""The committed catalogue is what the configs say, and the host libraries read it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from command_line import ROOT
from mmpretrain.apis.model import ModelHub
from modelindex.load_model_index import load

import mmkdlayer.catalogue
from mmkdlayer.catalogue import Entry, load_entries, render_pages
from mmkdlayer.catalogue.published import ABLATION, FIGURES, MARK
from mmkdlayer.errors import ConfigError

FOLDER = ROOT / 'configs' / 'kdlayer'


@pytest.fixture(scope='module')
def entries() -> list[Entry]:
    return load_entries(FOLDER)


@pytest.fixture(scope='module')
def pages(entries: list[Entry]) -> dict[str, str]:
    return render_pages(entries, ROOT)


def command(monkeypatch: pytest.MonkeyPatch, entries: list[Entry], *line: str) -> int:
    monkeypatch.setattr(mmkdlayer.catalogue, 'load_entries', lambda folder: entries)
    monkeypatch.setattr(sys, 'argv', ['make_catalogue.py', *line])
    try:
        runpy.run_path(str(ROOT / 'tools' / 'make_catalogue.py'), run_name='__main__')
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_committed_files_are_up_to_date(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        message = f'{name} is out of date; run: python tools/make_catalogue.py'
        assert (ROOT / name).read_text(encoding='utf-8') == text, message


def test_check_of_the_command(monkeypatch, capsys, entries, tmp_path: Path) -> None:
    assert command(monkeypatch, entries, '--check') == 0
    assert '3 files are up to date' in capsys.readouterr().out
    # A config that was changed shows.
    changed = [replace(entries[0], epochs=1), *entries[1:]]
    before = (FOLDER / 'metafile.yml').read_text()
    assert command(monkeypatch, changed, '--check') == 1
    output = capsys.readouterr().out
    assert 'configs/kdlayer/metafile.yml' in output
    assert 'python tools/make_catalogue.py' in output
    assert (FOLDER / 'metafile.yml').read_text() == before


def test_all_pairs(entries: list[Entry]) -> None:
    names = [entry.name for entry in entries]
    assert len(names) == len(set(names)) == 36
    pairs = {*FIGURES, 'resnet50_mobilenetv2_in1k'}
    assert set(names) == {f'{pair}{suffix}' for pair in pairs for suffix in ('', '_letkd1')}
    epochs = {(entry.data, entry.epochs, entry.batch_size) for entry in entries}
    assert epochs == {('cifar100', 240, 64), ('tinyimagenet', 240, 64), ('in1k', 100, 256)}


def test_costs_of_resnet20_by_hand(entries: list[Entry]) -> None:
    costs = {entry.name: entry.cost for entry in entries}
    one = costs['resnet56_resnet20_cifar100_letkd1']
    two = costs['resnet56_resnet20_cifar100']
    # 64 channels on maps of 8x8; 4096 centroids, 100 x 8 sub-classes.
    assert one.kd_parameters == 2 * 4096 * 64 + 2 * 4096 + 2
    assert one.kd_flops == 2 * 4096 * 64 * 8 * 8 + 2 * 4096 * 8 * 8
    assert two.kd_parameters - one.kd_parameters == 2 * 800 * 64 + 2 * 800 + 2
    assert two.kd_flops - one.kd_flops == 2 * 800 * 64 * 8 * 8 + 2 * 800 * 8 * 8
    assert (one.parameters, one.flops) == (two.parameters, two.flops)
    # As the literature has them: 0.28 M, 41 M multiply-adds; ResNet-18 11.69 M, 1.82 G.
    assert (round(one.parameters, -4), round(one.flops, -6)) == (280_000, 41_000_000)
    large = costs['resnet34_resnet18_in1k']
    assert (large.parameters, round(large.flops, -7)) == (11_689_512, 1_820_000_000)


def test_pages_mark_what_is_quoted(pages: dict[str, str]) -> None:
    text = pages['configs/kdlayer/README.md']
    assert f'**All accuracies on this page (in percent) are {MARK}.**' in text
    for row in (
        '| ResNet-56 → ResNet-20 | 72.34 | 69.06 | 70.66 | 71.84 | 72.44 | 73.27 |',
        '| ResNet-50 → MobileNetV2 | 68.97 | 58.35 | – | – | 60.69 | 61.15 |',
        '| ResNet-50 → MobileNetV1 | 76.13 / 92.86 | 68.87 / 88.76 | 68.58 / 88.98 | 72.54 / 91.13 ',
        '| ResNet-50 → MobileNetV2 | – | – | – | – | – | – |',
    ):
        assert row in text
    assert 'about 2% longer per image for the intermediate layer' in text
    for model in yaml.safe_load(pages['configs/kdlayer/metafile.yml'])['Models']:
        for result in model.get('Results', []):
            assert result['Source'] == model['Metadata']['Accuracies'] == MARK
        assert ('Results' in model) == ('resnet50_mobilenetv2_in1k' not in model['Name'])


def test_links_lead_somewhere(pages: dict[str, str]) -> None:
    links = re.findall(r'\]\(((?!http)[^)#]+)', pages['configs/kdlayer/README.md'])
    assert len(links) > 36 + len(ABLATION)
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_host_reads_the_model_index(monkeypatch) -> None:
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == 36
    model = next(m for m in index.models if m.name == 'resnet34_resnet18_in1k')
    assert model.results[0].metrics == {'Top 1 Accuracy': 72.38, 'Top 5 Accuracy': 91.15}
    assert model.in_collection == index.collections[0].name == 'letKD'
    assert index.collections[0].paper['URL'].endswith('2309.02843')
    assert model.metadata.parameters == 24_100_012
    # mmpretrain's own registration finds the configs too.
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    ModelHub.register_model_index(str(ROOT / 'model-index.yml'), config_prefix=str(ROOT))
    for entry in ModelHub._models_dict.values():
        assert Path(entry.config).is_file()


def test_published_pair_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='resnet56_resnet20_cifar100'):
        load_entries(tmp_path)


def test_built_package_carries_the_model_index(tmp_path: Path) -> None:
    """``mim`` looks for it in the folder ``.mim`` of an installed package."""
    line = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', str(tmp_path)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=120)
    folder = tmp_path / 'mmkdlayer' / '.mim'
    index = load(str(folder / 'model-index.yml'))
    assert len(index.models) == 36
    assert [m.name for m in index.models if not (folder / m.config).is_file()] == []
