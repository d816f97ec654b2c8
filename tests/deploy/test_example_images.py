"""The images that students are compared on have the size and channels of those of the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_data import MadeUpCIFAR100
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmkdlayer.deploy import ExportOptions, export_student
from mmkdlayer.deploy.example_images import find_examples, first_channels
from mmkdlayer.errors import ConfigError

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')
EDGE = dict(type='ResizeEdge', scale=48)


def config(*steps: dict, kind: str = 'CustomDataset', **more: object) -> Config:
    dataset = dict(type=kind, data_root='nowhere', pipeline=[*steps, PACK])
    return Config(dict(test_dataloader=dict(dataset=dataset), **more))


def examples(cfg: Config, **options: object):
    init_default_scope('mmpretrain')
    preprocessor = MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor'))
    return find_examples(cfg, preprocessor, torch.nn.Conv2d(2, 4, 1), **options)


@pytest.mark.parametrize(
    ('cfg', 'shape'),
    [
        (config(LOAD, dict(type='Resize', scale=32)), (3, 32, 32)),
        (config(LOAD, dict(type='Resize', scale=(40, 24))), (3, 24, 40)),
        (config(LOAD, EDGE, dict(type='CenterCrop', crop_size=(24, 40))), (3, 40, 24)),
        # a resize of one edge after the crop, which leaves nothing of the crop's size
        (config(LOAD, dict(type='CenterCrop', crop_size=(20, 40)), EDGE), (3, 96, 48)),
        (config(dict(LOAD, color_type='grayscale'), dict(type='Resize', scale=8)), (1, 8, 8)),
        (config(kind='CIFAR10'), (3, 32, 32)),
        (config(kind='CIFAR100'), (3, 32, 32)),
        (config(kind='MNIST'), (1, 28, 28)),
        (config(kind='mmpretrain.FashionMNIST'), (1, 28, 28)),
        (config(dict(type='Resize', scale=40), kind='CIFAR100'), (3, 40, 40)),
        (config(LOAD, image_shape=[3, 64, 48]), (3, 64, 48)),
    ],
)
def test_the_pipeline_or_the_data_set_tells_the_shape(cfg, shape):
    found = examples(cfg)
    assert tuple(found.images.shape) == (4, *shape)
    assert 'noise alone (no test images' in found.source


def test_a_given_size_where_nothing_else_tells_it():
    with pytest.raises(ConfigError, match=r'Nothing tells the size.*--data-root.*--input-size'):
        examples(config(LOAD, EDGE))
    # the crop of the training would be a guess
    training = config(LOAD, dict(type='RandomCrop', crop_size=64)).test_dataloader
    with pytest.raises(ConfigError, match='Nothing tells the size'):
        examples(config(LOAD, train_dataloader=training))
    assert tuple(examples(config(LOAD, EDGE), size=(48, 56)).images.shape) == (4, 2, 48, 56)
    with pytest.raises(ConfigError, match=r'says 48x56, but the test pipeline gives .* 32x32'):
        examples(config(kind='CIFAR10'), size=(48, 56))


def test_real_images_tell_their_size(tmp_path):
    for name, size in (('a', (20, 12)), ('b', (20, 12)), ('c', (20, 12))):
        Image.new('RGB', size, 'red').save(tmp_path / f'{name}.png')
    cfg = config(LOAD)
    cfg.test_dataloader.dataset.update(data_root=str(tmp_path), with_label=False)
    found = examples(cfg)
    assert tuple(found.images.shape) == (4 + 3, 3, 12, 20)
    assert found.images[4, :, 0, 0].tolist() == [0, 0, 255]  # not normalised, BGR
    assert found.one_size and found.source == '4 images of noise and 3 test images'
    Image.new('RGB', (30, 30)).save(tmp_path / 'd.png')
    assert not examples(cfg).one_size


def test_a_data_set_is_never_downloaded(monkeypatch):
    from mmpretrain.datasets import cifar

    def refuse(*args, **options):
        raise AssertionError('a download')

    monkeypatch.setattr(cifar, 'download_and_extract_archive', refuse)
    assert (
        'RuntimeError' in examples(config(kind='CIFAR100')).source
    )  # mmpretrain's: cannot find it


def test_the_first_convolution_tells_the_channels():
    assert first_channels(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(5, 4, 1))) == 5
    with pytest.raises(ConfigError, match='no convolution'):
        first_channels(torch.nn.Linear(3, 3))


@pytest.fixture
def session(training, tmp_path):
    """Export to ONNX; gives the session and the page."""
    pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')

    def open_session():
        options = ExportOptions(formats=('onnx',), fold=True)
        export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
        file = tmp_path / 'out' / 'student.onnx'
        return runtime.InferenceSession(str(file)), (tmp_path / 'out' / 'model_card.md').read_text()

    return open_session


@pytest.mark.parametrize('there', [True, False], ids=['data', 'no data'])
def test_onnx_of_a_pair_whose_pipeline_does_not_resize(there, training, session):
    kind = MadeUpCIFAR100 if there else 'CIFAR100'
    dataset = dict(type=kind, data_root='nowhere', split='test', pipeline=[PACK])
    training.cfg.test_dataloader.dataset = dataset
    run, page = session()
    assert run.get_inputs()[0].shape == ['batch', 3, 'height', 'width']
    assert run.get_modelmeta().custom_metadata_map['size'] == '[32, 32]'
    assert ('and 8 test images' in page) == there and 'any height and width' in page
    for side in (32, 40):
        images = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
        [logits] = run.run(None, dict(input=images))
        expected = training.model.student(torch.from_numpy(images)).detach().numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_student_of_one_channel(make_distillation, distillation_config, make_config, tmp_path):
    """In each format; the pipeline reads gray images."""
    pytest.importorskip('onnx')
    config = distillation_config(
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[120.0], std=[60.0])
    )
    for network in ('architecture', 'teacher'):
        config[network]['backbone']['in_channels'] = 1
    torch.save(dict(state_dict=make_distillation(config).state_dict()), tmp_path / 'gray.pth')
    cfg = make_config(config)
    cfg.test_dataloader.dataset.pipeline[0].color_type = 'grayscale'
    formats = ('onnx', 'torchscript')
    result = export_student(
        cfg, tmp_path / 'gray.pth', tmp_path / 'out', ExportOptions(formats=formats)
    )
    assert all(result['formats'][name].any_size for name in formats)
    text = (tmp_path / 'out' / 'student.py').read_text()
    assert Config.fromfile(tmp_path / 'out' / 'student.py').image_shape == [1, 16, 16], text


@pytest.mark.parametrize('prune', [False, True], ids=['whole', 'pruned'])
def test_images_that_the_student_does_not_take(prune, training, tmp_path):
    training.cfg.test_dataloader.dataset.pipeline[0].color_type = 'grayscale'
    Image.new('RGB', (16, 16)).save(tmp_path / 'a.png')
    options = ExportOptions(prune_templates=str(tmp_path) if prune else None)
    with pytest.raises(ConfigError, match=r'does not run on images of \(1, 16, 16\).*channels'):
        export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)


def test_images_of_several_sizes_and_a_file_of_one(training, tmp_path, monkeypatch):
    from mmkdlayer.deploy import formats

    def takes_one_size(model, images, path, any_size):
        if any_size:
            raise ValueError('fixed')
        return model

    monkeypatch.setitem(formats.WRITERS, 'torchscript', takes_one_size)
    for side in (16, 24):
        Image.new('RGB', (side, side)).save(tmp_path / f'{side}.png')
    dataset = training.cfg.test_dataloader.dataset
    dataset.update(data_root=str(tmp_path), with_label=False, pipeline=[LOAD, PACK])
    options = ExportOptions(formats=('torchscript',))
    with pytest.raises(ConfigError, match=r'several sizes, but student\.pt would take \d\dx\d\d'):
        export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    dataset.pipeline.insert(1, dict(type='Resize', scale=16))
    result = export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    assert (
        not result['formats']['torchscript'].any_size
        and 'images of 16x16 alone' in result['card'].read_text()
    )
