"""The code in the documents: configs build, Python runs, commands have the options they are given."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch
from command_line import run, write_images
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pages import ROOT, Block, code_blocks, help_of
from PIL import Image

from mmkdlayer.deploy import ExportOptions, export_student
from mmkdlayer.models.kd_layer_options import parse_kd_layers
from mmkdlayer.registry import MODELS

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

PYTHON = code_blocks('python')
FINE_TUNING = [block for block in PYTHON if '# finetune.py' in block.code]
CONFIGS = [b for b in PYTHON if '_base_ = ' in b.code and b not in FINE_TUNING]
PREPROCESSORS = [b for b in PYTHON if b.code.startswith('data_preprocessor = dict(')]
DISTILLERS = [block for block in PYTHON if block.code.startswith('distiller = dict(')]
SCRIPTS = [b for b in PYTHON if b not in [*CONFIGS, *FINE_TUNING, *PREPROCESSORS, *DISTILLERS]]
COMMANDS = re.compile(r'^(?:\w+=\S+ )*python (tools/\w+\.py) (.*)$', re.MULTILINE)


def name_of(block: Block) -> str:
    return f'{block.page}:{block.line}'


def build(model: dict) -> torch.nn.Module:
    init_default_scope('mmpretrain')
    model = Config(dict(model=model)).model
    for key in ('teacher_ckpt', 'checkpoints'):
        model.pop(key, None)
        model.teacher.pop(key, None)
    return MODELS.build(model)


@pytest.mark.parametrize('block', CONFIGS, ids=name_of)
def test_config_builds(block: Block, tmp_path: Path) -> None:
    file = tmp_path / 'example.py'
    file.write_text(block.code.replace("'../", f"'{ROOT}/configs/"))
    assert build(Config.fromfile(file).model).distiller.distill_losses


@pytest.mark.parametrize('block', PREPROCESSORS, ids=name_of)
def test_batch_augments_build(block: Block) -> None:
    found: dict = {}
    exec(block.code, found)
    preprocessor = MODELS.build(found['data_preprocessor'])
    assert [type(a).__name__ for a in preprocessor.batch_augments.augments] == ['Mixup', 'CutMix']


@pytest.mark.parametrize('block', DISTILLERS, ids=name_of)
def test_kd_layers_are_valid(block: Block) -> None:
    found: dict = {}
    exec(block.code, found)
    layers = parse_kd_layers(found['distiller']['kd_layers'], 'the example')
    assert {name: layer.num_templates for name, layer in layers.items()} == dict(
        inter=8000, penult=4096
    )


@pytest.fixture
def exported(tmp_path, monkeypatch, make_distillation, distillation_config) -> None:
    """An exported student in ``DIR``, ``photo.jpg`` and ``photos``, in the current folder."""
    monkeypatch.chdir(tmp_path)
    meta = dict(dataset_meta=dict(classes=('cat', 'dog', 'owl')), epoch=1, iter=1)
    torch.save(dict(state_dict=make_distillation().state_dict(), meta=meta), 'epoch_1.pth')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=16),
        dict(type='PackInputs'),
    ]
    loader = dict(dataset=dict(type='CustomDataset', data_root='data', pipeline=pipeline))
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=distillation_config(),
            train_dataloader=loader,
            test_dataloader=loader,
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            test_cfg=dict(),
        )
    )
    formats = ('onnx',) if importlib.util.find_spec('onnxruntime') else ()
    export_student(cfg, 'epoch_1.pth', 'DIR', ExportOptions(formats=formats))
    Image.new('RGB', (20, 20), 'red').save('photo.jpg')
    for name in [f'{kind}/{index}.jpg' for kind in ('cat', 'dog') for index in range(10)]:
        file = tmp_path / 'photos' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


@pytest.mark.parametrize('block', SCRIPTS, ids=name_of)
def test_script_runs(block: Block, exported: None, capsys: pytest.CaptureFixture) -> None:
    if 'onnxruntime' in block.code:
        pytest.importorskip('onnxruntime')
    exec(block.code, {})
    if "print(inferencer('photo.jpg')" in block.code:
        assert re.search('cat|dog|owl', capsys.readouterr().out)
    if "Path('photos')" in block.code:
        found = [path.read_text() for path in Path('ROOT').rglob('*.jpg')]
        assert len(set(found)) == len(found) == 20
        assert len(list(Path('ROOT/val/dog').iterdir())) == 2


def test_an_exported_student_is_fine_tuned(exported: None, tmp_path: Path) -> None:
    [block] = FINE_TUNING
    data = write_images(tmp_path / 'data', classes=2, train=4, test=2)
    code = block.code.replace('ROOT', str(data)).replace('max_epochs=10', 'max_epochs=1')
    (tmp_path / 'finetune.py').write_text(code.replace('num_workers=2', 'num_workers=0'))
    log = run('train.py', ['finetune.py', '--init-from', 'DIR/student.pth'])
    assert 'Epoch(val) [1]' in log and 'head.fc' in log
    checkpoint = torch.load(tmp_path / 'work_dirs/finetune/epoch_1.pth', weights_only=False)
    assert checkpoint['state_dict']['head.fc.weight'].shape == (2, 16)
    start = torch.load('DIR/student.pth', weights_only=True)['state_dict']['backbone.conv1.weight']
    moved = (checkpoint['state_dict']['backbone.conv1.weight'] - start).abs().max()
    assert 0 < moved < 0.1  # from the student's weights, not from new ones


def test_commands_have_these_options() -> None:
    help_text = help_of()
    texts: dict[str, str] = {}
    checked = 0
    for block in code_blocks('bash'):
        for script, rest in COMMANDS.findall(block.code.replace('\\\n', ' ')):
            text = texts.setdefault(script, help_text(script))
            for word in shlex.split(rest, comments=True):
                if word.startswith('--'):
                    assert word.split('=')[0] in text, f'{name_of(block)}: {script} {word}'
                    checked += 1
                if word.startswith('configs/'):
                    assert (ROOT / word).exists(), f'{name_of(block)}: {word}'
    assert checked > 10 and len(texts) > 5
