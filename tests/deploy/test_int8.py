"""The ONNX file with 8-bit integers: its accuracy, what is refused, what is left then."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from command_line import write_images
from PIL import Image

from mmkdlayer.deploy import ExportOptions, export_student, int8, load_student, predict_files
from mmkdlayer.deploy.labelled_images import LabelledImages, find_labelled
from mmkdlayer.errors import ConfigError, DataError

onnx = pytest.importorskip('onnx')
runtime = pytest.importorskip('onnxruntime')
NAMES = ('cat', 'dog', 'owl')


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folders named as the student's classes, with 10 images each."""
    folder = write_images(tmp_path / 'data') / 'train'
    for number, name in enumerate(NAMES):
        (folder / f'class_{number}').rename(folder / name)
    return folder


def export(training, tmp_path: Path, data: Path, **options) -> dict:
    options = ExportOptions(int8=str(data), **options)
    return export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)


def test_accuracy_and_graph(training, tmp_path, data):
    training.cfg.data_preprocessor = dict(mean=[100.0] * 3, std=[50.0] * 3, to_rgb=True)
    result = export(training, tmp_path, data, max_drop=100.0)
    out = tmp_path / 'out'
    assert [file.name for file in result['files']] == [
        *('student.pth', 'student.py', 'model_card.md', 'student.onnx', 'student_int8.onnx')
    ]
    [words] = [words for words in result['checks'] if words.startswith('student_int8.onnx')]
    assert 'calibrated on 30 of 30 images of a folder' in words
    # The accuracy before is that which the exported student has on the files.
    files, labels, _ = find_labelled(str(data), NAMES, 3)
    found = [p.classes[0][0] for p in predict_files(load_student(out), files)]
    right = sum(name == NAMES[label] for name, label in zip(found, labels))
    assert f'(of student.onnx: {100 * right / 30:.2f})' in words
    page = result['card'].read_text()
    assert 'student_int8.onnx, calibrated on 30' in page
    assert '| student_int8.onnx |' in page
    graph = onnx.load(str(out / 'student_int8.onnx'))
    onnx.checker.check_model(graph)
    assert {node.domain for node in graph.graph.node} == {''}
    # Each convolution of the KD layers has 8-bit weights, with a scale for each of its outputs.
    weights = {w.name: w for w in graph.graph.initializer}
    inputs = {name: node for node in graph.graph.node for name in node.output}
    kernels = [inputs[n.input[1]] for n in graph.graph.node if n.op_type == 'Conv']
    assert len(kernels) >= 4 + 2  # two in each of two layers
    assert {node.op_type for node in kernels} == {'DequantizeLinear'}
    for node in kernels:
        kernel, scale = (weights[name] for name in node.input[:2])
        assert kernel.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [kernel.dims[0]]
    session = runtime.InferenceSession(str(out / 'student_int8.onnx'))
    assert session.get_modelmeta().custom_metadata_map['classes'] == '["cat", "dog", "owl"]'
    assert session.get_inputs()[0].shape[0] == 'batch'
    # Its logits are near the float file's.
    batch = torch.randn(5, 3, 16, 16).numpy()
    exact = runtime.InferenceSession(str(out / 'student.onnx')).run(None, {'input': batch})[0]
    near = session.run(None, {'input': batch})[0]
    assert 0 < abs(near - exact).max() < 0.3 * abs(exact).max()


def test_a_drop_that_is_too_large(training, tmp_path, data, monkeypatch):
    """The float files are written, and an int8 file of before is removed."""
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'student_int8.onnx').write_bytes(b'of before')
    monkeypatch.setattr(int8.Int8, 'drop', 1.25)
    with pytest.raises(
        ConfigError, match=r'drops by 1\.25 points, and --max-drop allows 1 \(.*top'
    ):
        export(training, tmp_path, data)
    assert sorted(file.name for file in out.iterdir()) == [
        *('model_card.md', 'student.onnx', 'student.pth', 'student.py')
    ]
    page = (out / 'model_card.md').read_text()
    assert 'it was not kept' in page and '| student_int8.onnx |' not in page
    assert len(load_student(out).kd_layers) == 2
    export(training, tmp_path, data, max_drop=1.25)
    assert (out / 'student_int8.onnx').is_file()


def test_images_without_classes(training, tmp_path, data):
    with pytest.raises(DataError, match=r'--int8 .*cat: expected a folder .*--max-drop none'):
        export(training, tmp_path, data / 'cat')
    assert not (tmp_path / 'out').exists()
    Image.new('RGB', (40, 20)).save(data / 'cat' / 'wide.png')  # resized to 16x32: a batch alone
    (data / 'cat' / 'broken.png').write_bytes(b'no image')
    training.cfg.test_dataloader.dataset.pipeline[1] = dict(type='ResizeEdge', scale=16)
    result = export(training, tmp_path, data / 'cat', max_drop=math.inf, input_size=(16, 16))
    [words] = [words for words in result['checks'] if words.startswith('student_int8.onnx')]
    assert 'calibrated on 11 of 11 images' in words and 'no accuracy was measured' in words
    assert '1 more could not be read, such as broken.png' in words


def test_data_that_do_not_fit(training, tmp_path, data):
    with pytest.raises(DataError, match='nowhere: expected a folder'):
        export(training, tmp_path, tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='There are no images in .*empty'):
        export(training, tmp_path, tmp_path / 'empty', max_drop=math.inf)
    (tmp_path / 'empty' / 'broken.png').write_bytes(b'no image')
    with pytest.raises(DataError, match=r'none of 1 images can be read; the first, .*broken\.png'):
        export(training, tmp_path, tmp_path / 'empty', max_drop=math.inf)
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize('module', ['onnx', 'onnxruntime'])
def test_without_the_packages(module, training, tmp_path, data, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f'--int8 needs the package {module}.*pip install'):
        export(training, tmp_path, data)


def test_how_folders_are_classes(data):
    def labels(classes, count: int) -> LabelledImages:
        return find_labelled(str(data), classes, count)

    assert labels(('owl', 'dog', 'cat'), 3).labels == [2] * 10 + [1] * 10 + [0] * 10
    assert labels(('cat', 'ant', 'dog', 'owl'), 4).labels == [0] * 10 + [2] * 10 + [3] * 10
    for unknown in (None, ('a', 'b', 'c'), 'text', ('cat', 'cat', 'dog')):
        found = labels(unknown, 3)
        assert found.labels == [0] * 10 + [1] * 10 + [2] * 10
        assert 'by the order of the folders' in found.note
    found = labels(('a', 'b', 'c', 'cat'), 4)
    assert found.labels is None and "['dog', 'owl'] are none of the student's 4" in found.note
    Image.new('RGB', (16, 16)).save(data / 'loose.png')
    found = labels(NAMES, 3)
    assert found.labels is None and found.note == '1 of its 31 images are in no folder'
