"""The page of pairs and its metafile say what the configs say, and the host libraries read them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import catalogue
import pytest
import yaml
from command_line import ROOT
from mmpretrain.apis.model import ModelHub
from modelindex.load_model_index import load

FOLDER = ROOT / 'configs' / 'kdlayer'
PAGE = (FOLDER / 'README.md').read_text(encoding='utf-8')
MODELS = yaml.safe_load((FOLDER / 'metafile.yml').read_text(encoding='utf-8'))['Models']

#: Pairs of today's networks, which the paper does not have.
TODAYS = {
    'convnext-base_mobilenetv3-small_in1k',
    'deit-base_deit-tiny_in1k',
    'dinov2-small_resnet18_in1k',
    'resnet50_deit-tiny_in1k',
    'swin-base_resnet18_in1k',
    'vit-base-clip_efficientnet-b0_in1k',
}


#: Rows whose costs are measured where all of them are not.
SAMPLE = ('ResNet-56 → ResNet-20', 'ResNet-110 → ResNet-20', 'ResNet-34 → ResNet-18')


@pytest.fixture(scope='module')
def entries() -> list[catalogue.Entry]:
    """Those of the sample."""
    rows = [line for line in PAGE.splitlines() if line.startswith(tuple(f'| {s} ' for s in SAMPLE))]
    return catalogue.read_entries('\n'.join(rows), FOLDER)


def test_committed_files_are_up_to_date_in_a_sample(entries) -> None:
    rows = catalogue.cost_tables(entries).splitlines()
    written = PAGE.partition(catalogue.BEGIN)[2].splitlines()
    students = {'ResNet-20', 'ResNet-18'}
    measured = [row for row in rows if row.startswith('|')]
    message = f'{catalogue.README} is out of date; run: {catalogue.COMMAND}'
    assert measured == [
        row
        for row in written
        if row.startswith(('| student', '| ---')) or row.split(' | ')[0].strip('| ') in students
    ], message
    models = {model['Name']: model for model in MODELS}
    for model in catalogue.metafile(entries)['Models']:
        assert models[model['Name']] == model, message.replace('README.md', 'metafile.yml')


@pytest.mark.slow
def test_committed_files_are_up_to_date() -> None:
    for name, text in catalogue.render(PAGE, catalogue.read_entries(PAGE, FOLDER)).items():
        message = f'{name} is out of date; run: {catalogue.COMMAND}'
        assert (ROOT / name).read_text(encoding='utf-8') == text, message


def test_command(entries, monkeypatch, capsys, tmp_path) -> None:
    """It writes the files, and its check names those that are out of date and writes nothing."""
    files = [tmp_path / name for name in catalogue.render(PAGE, entries)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PAGE)
    monkeypatch.setattr(catalogue, 'ROOT', tmp_path)
    monkeypatch.setattr(catalogue, 'read_entries', lambda page, folder: entries)
    monkeypatch.setattr(sys, 'argv', ['catalogue.py'])
    catalogue.main()
    monkeypatch.setattr(sys, 'argv', ['catalogue.py', '--check'])
    catalogue.main()
    assert '3 files are up to date' in capsys.readouterr().out
    # A figure that was changed on the page shows.
    changed = [replace(entries[0], accuracy=(99.0,)), *entries[1:]]
    monkeypatch.setattr(catalogue, 'read_entries', lambda page, folder: changed)
    before = [file.read_text() for file in files]
    with pytest.raises(SystemExit, match=r'kdlayer/metafile.yml. Run: python .dev_scripts/catal'):
        catalogue.main()
    assert [file.read_text() for file in files] == before


def test_all_pairs() -> None:
    names = [model['Name'] for model in MODELS]
    assert len(names) == len(set(names)) == 36 + len(TODAYS)
    pairs = {name.replace('_letkd1', '') for name in names} - TODAYS
    assert set(names) - TODAYS == {
        f'{pair}{suffix}' for pair in pairs for suffix in ('', '_letkd1')
    }
    keys = 'Training Data', 'Epochs', 'Batch Size'
    assert {tuple(model['Metadata'][key] for key in keys) for model in MODELS} == {
        ('CIFAR-100', 240, 64),
        ('Tiny-ImageNet', 240, 64),
        ('ImageNet-1k', 100, 256),
        ('ImageNet-1k', 300, 1024),  # transformers
    }


def test_pair_that_the_page_leaves_out() -> None:
    catalogue.check_complete(PAGE, FOLDER)
    lines = [line for line in PAGE.splitlines() if 'ResNet-20' not in line or '|' not in line]
    with pytest.raises(SystemExit, match=r'no row of it.*resnet56_resnet20_cifar100_letkd1'):
        catalogue.check_complete('\n'.join(lines), FOLDER)


def test_costs_that_differ_between_pairs(entries) -> None:
    """Rows are of students: what one costs may not depend on its teacher."""
    [other] = [entry for entry in entries if entry.name == 'resnet110_resnet20_cifar100']
    costly = replace(other, cost=replace(other.cost, flops=1))
    with pytest.raises(
        SystemExit, match='resnet110_resnet20_cifar100: ResNet-20 costs .* other pair'
    ):
        catalogue.cost_tables([e for e in entries if e is not other] + [costly])


def test_what_is_quoted_is_marked() -> None:
    assert f'**All accuracies on this page (in percent) are {catalogue.QUOTED}.**' in PAGE
    for model in MODELS:
        for result in model.get('Results', []):
            assert result['Source'] == model['Metadata']['Accuracies'] == catalogue.QUOTED
        # The paper has no figures of these pairs.
        unknown = 'resnet50_mobilenetv2_in1k' in model['Name'] or model['Name'] in TODAYS
        assert ('Results' in model) == (not unknown)


def test_links_lead_somewhere_and_every_config_has_one() -> None:
    links = re.findall(r'\]\(((?!http)[^)#]+)', PAGE)
    assert [link for link in links if not (FOLDER / link).exists()] == []
    for pattern, folder in (('*.py', FOLDER), ('*.py', FOLDER.parent / 'ablation')):
        paths = {path.resolve() for path in folder.glob(pattern)}
        assert paths <= {(FOLDER / link).resolve() for link in links}


def test_host_reads_the_model_index(monkeypatch) -> None:
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == 36 + len(TODAYS)
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


def test_built_package_carries_the_model_index(tmp_path: Path) -> None:
    """``mim`` looks for it in the folder ``.mim`` of an installed package."""
    line = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', str(tmp_path)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=120)
    folder = tmp_path / 'mmkdlayer' / '.mim'
    index = load(str(folder / 'model-index.yml'))
    assert len(index.models) == 36 + len(TODAYS)
    assert [m.name for m in index.models if not (folder / m.config).is_file()] == []
