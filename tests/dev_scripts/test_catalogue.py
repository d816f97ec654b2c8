"""The page of pairs and its metafile say what the configs say, and the host libraries read them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from command_line import ROOT
from mmpretrain.apis.model import ModelHub
from modelindex.load_model_index import load

FOLDER = ROOT / 'configs' / 'kdlayer'
PAGE = (FOLDER / 'README.md').read_text(encoding='utf-8')


#: Pairs of today's networks, which the paper does not have.
TODAYS = {
    'convnext-base_mobilenetv3-small_in1k',
    'deit-base_deit-tiny_in1k',
    'dinov2-small_resnet18_in1k',
    'resnet50_deit-tiny_in1k',
    'swin-base_resnet18_in1k',
    'vit-base-clip_efficientnet-b0_in1k',
}


@pytest.fixture(scope='module')
def catalogue() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location('catalogue', ROOT / '.dev_scripts/catalogue.py')
    module = sys.modules['catalogue'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules['catalogue']


@pytest.fixture(scope='module')
def entries(catalogue: ModuleType) -> list:
    return catalogue.read_entries(PAGE, FOLDER)


def test_committed_files_are_up_to_date(catalogue: ModuleType, entries: list) -> None:
    for name, text in catalogue.render(PAGE, entries).items():
        message = f'{name} is out of date; run: {catalogue.COMMAND}'
        assert (ROOT / name).read_text(encoding='utf-8') == text, message


def test_check_of_the_command(catalogue, entries, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, 'argv', ['catalogue.py', '--check'])
    monkeypatch.setattr(catalogue, 'read_entries', lambda page, folder: entries)
    catalogue.main()
    assert '3 files are up to date' in capsys.readouterr().out
    # A figure that was changed on the page shows.
    changed = [replace(entries[0], accuracy=(99.0,)), *entries[1:]]
    monkeypatch.setattr(catalogue, 'read_entries', lambda page, folder: changed)
    before = (FOLDER / 'metafile.yml').read_text()
    with pytest.raises(SystemExit, match=r'kdlayer/metafile.yml. Run: python .dev_scripts/catal'):
        catalogue.main()
    assert (FOLDER / 'metafile.yml').read_text() == before


def test_all_pairs(entries: list) -> None:
    names = [entry.name for entry in entries]
    assert len(names) == len(set(names)) == 36 + len(TODAYS)
    pairs = {name.replace('_letkd1', '') for name in names} - TODAYS
    assert set(names) - TODAYS == {
        f'{pair}{suffix}' for pair in pairs for suffix in ('', '_letkd1')
    }
    lengths = {
        (e.dataset, e.config.train_cfg.max_epochs, e.config.auto_scale_lr.base_batch_size)
        for e in entries
    }
    assert lengths == {
        ('CIFAR-100', 240, 64),
        ('Tiny-ImageNet', 240, 64),
        ('ImageNet-1k', 100, 256),
        ('ImageNet-1k', 300, 1024),  # transformers
    }


def test_pair_that_the_page_leaves_out(catalogue: ModuleType) -> None:
    lines = [line for line in PAGE.splitlines() if 'ResNet-20' not in line or '|' not in line]
    with pytest.raises(SystemExit, match=r'no row of it.*resnet56_resnet20_cifar100_letkd1'):
        catalogue.read_entries('\n'.join(lines), FOLDER)


def kd_layer_by_hand(channels: int, templates: int, side: int) -> tuple[int, int]:
    """Parameters and FLOPs of one KD layer on a map (channels, side, side)."""
    positions = side * side
    parameters = channels * templates + 1  # templates and their scale
    parameters += 2 * templates  # batch norm
    parameters += templates * channels + 1  # semantics and their scale
    flops = positions * templates * channels  # cosine match with each template
    flops += positions * templates * 2  # batch norm
    flops += positions * channels * templates  # what the matches mean
    return parameters, flops


def test_costs_of_a_pair_by_hand(entries: list) -> None:
    costs = {entry.name: entry.cost for entry in entries}
    one = costs['resnet56_resnet20_cifar100_letkd1']
    two = costs['resnet56_resnet20_cifar100']
    # 64 channels on maps of 8x8; 4096 centroids, 100 x 8 sub-classes.
    penult, inter = kd_layer_by_hand(64, 4096, 8), kd_layer_by_hand(64, 800, 8)
    assert (one.kd_parameters, one.kd_flops) == penult
    assert (two.kd_parameters - one.kd_parameters, two.kd_flops - one.kd_flops) == inter
    assert (one.parameters, one.flops) == (two.parameters, two.flops)
    # As the literature has them: 0.28 M, 41 M multiply-adds; ResNet-18 11.69 M, 1.82 G.
    assert (round(one.parameters, -4), round(one.flops, -6)) == (280_000, 41_000_000)
    large = costs['resnet34_resnet18_in1k']
    assert (large.parameters, round(large.flops, -7)) == (11_689_512, 1_820_000_000)


def test_costs_of_a_network_by_hand(catalogue, classifier_config, kd_layer_configs) -> None:
    """The tests' ResNet: 16x16 images; maps of 16, 8 and 4 pixels with 4, 8 and 16 channels."""
    model = classifier_config()
    model.update(type='mmkdlayer.KDLayerClassifier', kd_layers=kd_layer_configs())
    inter, penult = kd_layer_by_hand(16, 6, 4), kd_layer_by_hand(16, 5, 4)
    cost = catalogue.measure(model, 16)
    assert cost.kd_parameters == inter[0] + penult[0]
    assert cost.kd_flops == inter[1] + penult[1]

    outputs = [4 * 256] * 5 + [8 * 64] * 5 + [16 * 16] * 5  # of the convolutions, in order
    inputs = [3, 4, 4, 4, 4] + [4, 8, 8, 8] + [4] + [8, 16, 16, 16] + [8]
    kernels = [9] * 5 + [9] * 4 + [1] + [9] * 4 + [1]  # the last of a stage is its shortcut
    flops = sum(o * i * k for o, i, k in zip(outputs, inputs, kernels))
    flops += 2 * sum(outputs)  # batch norms
    flops += 16 * 16  # pooling
    flops += 16 * 3  # classifier
    assert cost.flops == flops


def test_what_is_quoted_is_marked(catalogue: ModuleType) -> None:
    assert f'**All accuracies on this page (in percent) are {catalogue.QUOTED}.**' in PAGE
    for model in yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']:
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
