"""mmpretrain's own tools on an exported folder: models, inferencers, evaluation, Grad-CAM."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
from command_line import write_images
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer, get_model

import mmkdlayer
from mmkdlayer import load_student
from mmkdlayer.deploy import ExportOptions, export_student

MIM_TOOLS = Path(mmpretrain.__file__).parent / '.mim' / 'tools'


@pytest.fixture
def data(tmp_path) -> Path:
    return write_images(tmp_path / 'data')


@pytest.fixture(params=[False, True], ids=['trained', 'folded'])
def exported(request, training, tmp_path, data) -> Path:
    training.cfg.test_dataloader.dataset.data_root = str(data / 'test')
    out = tmp_path / 'student'
    options = ExportOptions(fold=request.param)
    export_student(training.cfg, training.checkpoint, out, options)
    return out


def images_under(folder: Path) -> list[Path]:
    return sorted(folder.rglob('*.png'))


def run_tool(monkeypatch, name: str, *line: object) -> None:
    monkeypatch.setattr(sys, 'argv', [name, *map(str, line)])
    runpy.run_path(str(MIM_TOOLS / name), run_name='__main__')


def test_get_model_takes_both_files(exported, make_batch):
    files = dict(model=str(exported / 'student.py'), pretrained=str(exported / 'student.pth'))
    model = get_model(**files)
    inputs, _ = make_batch()
    assert torch.equal(model(inputs), load_student(exported)(inputs))


def test_the_inferencer_takes_the_model_and_both_files(exported, data):
    photo = str(images_under(data)[0])
    by_model = ImageClassificationInferencer(load_student(exported))
    by_files = ImageClassificationInferencer(
        str(exported / 'student.py'), pretrained=str(exported / 'student.pth'), device='cpu'
    )
    [first], [second] = by_model(photo), by_files(photo)
    assert first['pred_class'] in ('cat', 'dog', 'owl')
    assert first['pred_label'] == second['pred_label']
    assert first['pred_score'] == pytest.approx(second['pred_score'])


def test_mmpretrain_evaluates_it(exported, data, training, monkeypatch, tmp_path):
    """The accuracy of mmpretrain's own test.py is that of the trained student, image by image."""
    run_tool(
        monkeypatch,
        'test.py',
        *(exported / 'student.py', exported / 'student.pth', '--work-dir', tmp_path / 'work'),
        *('--out', tmp_path / 'metrics.json', '--out-item', 'metrics'),
        *('--cfg-options', f'test_dataloader.dataset.data_root={data / "test"}'),
    )
    metrics = Config.fromfile(str(tmp_path / 'metrics.json'))
    inferencer = ImageClassificationInferencer(load_student(exported))
    classes = sorted(folder.name for folder in (data / 'test').iterdir())
    files = images_under(data / 'test')
    batches = [inferencer.preprocess([str(file)]) for file in files]
    right = 0
    with torch.no_grad():
        for file, batch in zip(files, batches):
            (inputs,) = batch
            images = training.model.student.data_preprocessor(inputs)['inputs']
            label = int(training.model.student(images).argmax())
            right += label == classes.index(file.parent.name)
    assert metrics['accuracy/top1'] == pytest.approx(100 * right / len(files))


def grad_cam(model: torch.nn.Module, layer: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Grad-CAM in two lines: channels weighed by their mean gradient."""
    kept = {}
    handle = layer.register_forward_hook(lambda module, args, output: kept.update(map=output))
    model(images)[:, 1].sum().backward(inputs=[kept['map']])
    handle.remove()
    weights = kept['map'].grad.mean((2, 3), keepdim=True)
    return (weights * kept['map']).sum(1).relu().detach()


def test_gradients_reach_the_layers_as_in_the_trained_student(exported, training, make_batch):
    inputs, _ = make_batch()
    expected = grad_cam(training.model.student, training.model.student.kd_layers.inter, inputs)
    student = load_student(exported)
    assert expected.max() > 0
    found = grad_cam(student, student.kd_layers.inter, inputs)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_grad_cam_of_mmpretrain(exported, data, monkeypatch, tmp_path):
    pytest.importorskip('pytorch_grad_cam', reason='needs "pip install grad-cam<1.5"')
    picture = tmp_path / 'cam.png'
    run_tool(
        monkeypatch,
        'visualization/vis_cam.py',
        *(images_under(data)[0], exported / 'student.py', exported / 'student.pth'),
        *('--target-layers', 'kd_layers.penult', '--save-path', picture),
    )
    assert picture.stat().st_size > 0


def test_the_page_says_how_to_do_that():
    """docs/deploy.md names the tools and options that these tests run."""
    page = (Path(mmkdlayer.__file__).parents[1] / 'docs' / 'deploy.md').read_text()
    for words in ('vis_cam.py', '--target-layers kd_layers.penult', '/test.py', 'get_model'):
        assert words in page
    options = set(re.findall(r'(--[a-z][a-z-]+)', page))
    tool = (Path(mmkdlayer.__file__).parents[1] / 'tools' / 'export_student.py').read_text()
    for option in re.findall(r"'(--[a-z-]+)'", tool):
        assert option in options or option == '--debug', option
    assert os.path.isfile(MIM_TOOLS / 'visualization' / 'vis_cam.py')
