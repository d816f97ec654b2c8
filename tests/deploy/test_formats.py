"""ONNX, TorchScript and torch.export: the same logits for any batch, with standard operators alone."""

from __future__ import annotations

import inspect

import pytest
import torch

import mmkdlayer
from mmkdlayer.deploy import ExportOptions, comparing, export_student, formats
from mmkdlayer.deploy.onnx_metadata import channel_order
from mmkdlayer.errors import ConfigError

needs_torch_export = pytest.mark.skipif(
    'strict' not in inspect.signature(torch.export.export).parameters,
    reason='torch.export needs torch 2.5 or later',
)


@pytest.fixture(params=[False, True], ids=['trained', 'folded'])
def export(request, training, tmp_path):
    def write(*names: str) -> dict:
        options = ExportOptions(fold=request.param, formats=names)
        return export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)

    return write


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(count))


def test_onnx(export, training, tmp_path):
    onnx = pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    result = export('onnx')
    assert result['formats']['onnx'].comparison.difference <= 1e-4
    graph = onnx.load(str(tmp_path / 'out' / 'student.onnx'))
    onnx.checker.check_model(graph)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [('', 17)]
    assert {node.domain for node in graph.graph.node} == {''}
    session = runtime.InferenceSession(str(tmp_path / 'out' / 'student.onnx'))
    [given], [taken] = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ('input', ['batch', 3, 'height', 'width'])
    assert (taken.name, taken.shape[0]) == ('output', 'batch')
    for count in (1, 5):
        [logits] = session.run(None, {'input': images(count).numpy()})
        expected = training.model.student(images(count)).detach()
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)
    assert 'student.onnx gives the logits' in result['card'].read_text()


@pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning')
def test_torchscript(export, training, tmp_path):
    export('torchscript')
    module = torch.jit.load(str(tmp_path / 'out' / 'student.pt'))
    for count in (1, 5):
        expected = training.model.student(images(count))
        torch.testing.assert_close(module(images(count)), expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning')
def test_one_image_to_compare_on(training, tmp_path):
    written = formats.write_format('torchscript', training.model.student, images(1), tmp_path)
    assert written.any_size and written.comparison.difference <= 1e-5


def test_a_difference_that_is_not_a_number_counts(training, tmp_path, monkeypatch):
    student = training.model.student

    def fails_on_one(model, images, path, any_size):
        return lambda x: model(x) * (float('nan') if len(x) == 1 else 1)

    monkeypatch.setitem(formats.WRITERS, 'torchscript', fails_on_one)
    comparison = formats.write_format('torchscript', student, images(4), tmp_path).comparison
    assert not comparison.fits(1e-4)


@needs_torch_export
@pytest.mark.parametrize(
    'export',
    [False, pytest.param(True, marks=pytest.mark.slow)],
    indirect=True,
    ids=['trained', 'folded'],
)
def test_torch_export(export, training, tmp_path):
    assert (
        hasattr(torch.export.Dim, 'AUTO')
        == export('torch_export')['formats']['torch_export'].any_size
    )
    program = torch.export.load(str(tmp_path / 'out' / 'student.pt2'))
    operators = {str(n.target) for n in program.graph.nodes if n.op == 'call_function'}
    # beside torch's operators: Python's own, and the block in which the trained layer leaves autocast
    others = {name for name in operators if not name.startswith(('aten.', '<built-in function'))}
    assert others <= {'wrap_with_autocast'}
    for count in (1, 5):
        expected = training.model.student(images(count))
        torch.testing.assert_close(program.module()(images(count)), expected, atol=1e-5, rtol=0)


@needs_torch_export
def test_torch_export_of_one_size(training, tmp_path):
    """As for a network that takes no other; the batch is free."""
    model, file = comparing.Logits(training.model.student), tmp_path / 'student.pt2'
    run = formats.write_torch_export(model.requires_grad_(False), images(2), file, False)
    for count in (1, 5):
        torch.testing.assert_close(run(images(count)), model(images(count)), atol=1e-5, rtol=0)
    with pytest.raises((AssertionError, RuntimeError)):
        run(torch.zeros(1, 3, 32, 32))


class OfOneSize(torch.nn.Module):
    """Refuses others by an error of ours, such as that of a KD layer on tokens of a grid."""

    def forward(self, images, mode):
        if images.shape[-1] != 16:
            raise ConfigError('a grid of 4x4 tokens')
        return images.mean((2, 3))


@pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning')
def test_a_network_that_refuses_other_sizes(tmp_path):
    written = formats.write_format('torchscript', OfOneSize(), images(4), tmp_path)
    assert not written.any_size and written.comparison.difference <= 1e-6


def test_the_student_is_as_before(training, tmp_path):
    student = training.model.student
    before = [(name, p.requires_grad) for name, p in student.named_parameters()]
    formats.write_format('torchscript', student, images(3), tmp_path)
    assert [(name, p.requires_grad) for name, p in student.named_parameters()] == before
    assert all(wanted for _, wanted in before)


def test_a_file_that_gives_other_logits_is_not_written(training, tmp_path, monkeypatch):
    def wrong(model, images, path, any_size):
        path.write_bytes(b'some program')
        return lambda x: model(x) + 2e-4

    monkeypatch.setitem(formats.WRITERS, 'torchscript', wrong)
    options = ExportOptions(formats=('torchscript',))
    with pytest.raises(ConfigError, match=r'student\.pt gives other logits.*0\.0001.*Nothing was'):
        export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    assert list((tmp_path / 'out').iterdir()) == []


def test_a_network_that_can_not_be_written_so(training, tmp_path, monkeypatch):
    def fails(model, images, path, any_size):
        raise ValueError('no such operator\nand much more')

    monkeypatch.setitem(formats.WRITERS, 'torchscript', fails)
    options = ExportOptions(formats=('torchscript',))
    with pytest.raises(
        ConfigError, match=r'student\.pt: torch .* ValueError: no such operator\. L'
    ):
        export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    assert list((tmp_path / 'out').iterdir()) == []


@pytest.mark.parametrize('module', ['onnx', 'onnxruntime'])
def test_onnx_that_is_not_installed(module, training, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    if module != 'onnx':
        pytest.importorskip('onnx')
    with pytest.raises(ConfigError, match=f'needs the package {module}.*pip install onnx onnxr'):
        export_student(
            training.cfg, training.checkpoint, tmp_path / 'out', ExportOptions(formats=('onnx',))
        )
    assert list((tmp_path / 'out').iterdir()) == []


def test_a_format_that_is_no_longer_written_goes(training, tmp_path):
    out = tmp_path / 'out'
    options = ExportOptions(formats=('torchscript',))
    result = export_student(training.cfg, training.checkpoint, out, options)
    assert [file.name for file in result['files']] == [
        'student.pth',
        'student.py',
        'model_card.md',
        'student.pt',
    ]
    (out / 'notes.txt').write_text('mine')
    export_student(training.cfg, training.checkpoint, out)
    assert sorted(file.name for file in out.iterdir()) == [
        'model_card.md',
        'notes.txt',
        'student.pth',
        'student.py',
    ]


def test_a_network_of_one_size_has_a_file_of_one_size(tmp_path):
    """A transformer's trace has its position embedding for one size in it."""
    from mmengine.registry import MODELS, init_default_scope

    runtime = pytest.importorskip('onnxruntime')
    init_default_scope('mmpretrain')
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', arch=arch, img_size=24, patch_size=8),
        head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=16),
    )
    noise = torch.randn(4, 3, 24, 24)
    written = formats.write_format('onnx', MODELS.build(model).eval(), noise, tmp_path)
    assert not written.any_size and written.comparison.difference <= 1e-4
    [given] = runtime.InferenceSession(str(tmp_path / 'student.onnx')).get_inputs()
    assert given.shape == ['batch', 3, 24, 24]


def test_the_metadata_of_onnx(training, tmp_path):
    runtime = pytest.importorskip('onnxruntime')
    preprocessor = dict(
        type='mmpretrain.ClsDataPreprocessor', mean=[1.5, 2, 3], std=[4, 5, 6], to_rgb=True
    )
    training.cfg.data_preprocessor = preprocessor
    options = ExportOptions(formats=('onnx',))
    export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    session = runtime.InferenceSession(str(tmp_path / 'out' / 'student.onnx'))
    found = session.get_modelmeta().custom_metadata_map
    assert found == {
        'classes': '["cat", "dog", "owl"]',
        'mean': '[1.5, 2, 3]',
        'std': '[4, 5, 6]',
        'size': '[16, 16]',
        'channels': 'RGB',
        'output': 'logits',
        'mmkdlayer_version': mmkdlayer.__version__,
    }


@pytest.mark.parametrize('odd', ['a text', ['a'], dict(classes=3)])
def test_a_checkpoint_whose_classes_are_no_names(odd, training, tmp_path):
    runtime = pytest.importorskip('onnxruntime')
    content = torch.load(training.checkpoint, weights_only=False)
    content['meta']['dataset_meta'] = odd
    torch.save(content, training.checkpoint)
    options = ExportOptions(formats=('onnx',))
    result = export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    session = runtime.InferenceSession(str(tmp_path / 'out' / 'student.onnx'))
    assert 'classes' not in session.get_modelmeta().custom_metadata_map
    assert '| classes | not stated |' in result['card'].read_text()


@pytest.mark.parametrize(
    ('kind', 'step', 'to_rgb', 'channels', 'order'),
    [
        ('CustomDataset', 'LoadImageFromFile', True, 3, 'RGB'),
        ('CustomDataset', 'LoadImageFromFile', False, 3, 'BGR'),
        ('CIFAR100', 'PackInputs', False, 3, 'RGB'),
        ('CIFAR100', 'PackInputs', True, 3, 'BGR'),
        ('MNIST', 'PackInputs', False, 1, 'gray'),
        ('CustomDataset', 'PackInputs', True, 3, '3'),
        ('CustomDataset', 'LoadImageFromFile', True, 4, '4'),
    ],
)
def test_the_order_of_the_channels(kind, step, to_rgb, channels, order):
    dataset = dict(type=f'mmpretrain.{kind}', pipeline=[dict(type=step)])
    cfg = dict(test_dataloader=dict(dataset=dataset))
    assert channel_order(cfg, dict(to_rgb=to_rgb), channels) == order
