"""Folding and pruning of whole students: what stays the same, and what goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmkdlayer import load_student
from mmkdlayer.deploy import ExportOptions, FoldedKDLayer, export_student
from mmkdlayer.deploy.calibration import calibration_loader
from mmkdlayer.errors import ConfigError, DataError

IMAGES = 40


@pytest.fixture
def photos(tmp_path):
    """A folder of images with sub-folders, which are no classes of the config."""
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        folder = tmp_path / 'photos' / ('a' if index % 2 else 'b/c')
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{index}.png')
    return tmp_path / 'photos'


@pytest.fixture
def sparse(training, photos):
    """The training, with templates whose thresholds only some of the photos reach."""
    student = training.model.student
    inputs = images_of(training.cfg, photos, student)
    scores = {}
    for layer in student.kd_layers.values():
        layer.templates.register_forward_hook(
            lambda module, args, output: scores.update({module: output})
        )
    with torch.no_grad():
        for layer in student.kd_layers.values():
            student(inputs)
            best = scores[layer.templates].amax(dim=(0, 2, 3))
            # templates 0 and 3 are just out of reach of the photos, the others well within
            margin = torch.full_like(best, 0.3)
            margin[[0, 3]] = -1e-3
            layer.bn.running_mean.zero_()
            layer.bn.running_var.fill_(1)
            layer.bn.weight.fill_(1)
            layer.bn.bias.copy_(margin - best / (1 + layer.bn.eps) ** 0.5)
    content = torch.load(training.checkpoint, weights_only=False)
    content['state_dict'] = training.model.state_dict()
    torch.save(content, training.checkpoint)
    return training


def images_of(cfg, folder, student) -> torch.Tensor:
    batches = calibration_loader(cfg, str(folder))
    return torch.cat([student.data_preprocessor(batch)['inputs'] for batch in batches])


@pytest.mark.parametrize('again', [False, True])
def test_folded_logits_are_those_of_the_trained_student(again, training, tmp_path, make_batch):
    out = tmp_path / 'out'
    result = export_student(training.cfg, training.checkpoint, out, ExportOptions(fold=True))
    if again:  # an exported, folded student is exported once more
        cfg = Config.fromfile(out / 'student.py')
        result = export_student(cfg, out / 'student.pth', tmp_path / 'b', ExportOptions(fold=True))
        assert result['changes'] == []
        out = tmp_path / 'b'
    assert result['difference'] <= 1e-4
    student = load_student(out)
    assert all(isinstance(layer, FoldedKDLayer) for layer in student.kd_layers.values())
    assert {key for key in student.state_dict() if 'kd_layers.inter' in key} == {
        'kd_layers.inter.templates.weight',
        'kd_layers.inter.templates.bias',
        'kd_layers.inter.semantics.weight',
    }
    inputs, _ = make_batch()
    expected = training.model.student(inputs)
    without = load_student(out)
    for layer in without.kd_layers.values():
        layer.semantics.weight.data.zero_()
    assert (without(inputs) - expected).abs().max() > 1e-3  # so the layers do matter here
    torch.testing.assert_close(student(inputs), expected, atol=1e-5, rtol=0)


def test_the_place_and_other_kinds_of_layers_stay(training, tmp_path, monkeypatch):
    training.cfg.model.distiller.kd_layers.penult.update(module='backbone', output_index=0)
    model = export_student(
        training.cfg, training.checkpoint, tmp_path / 'out', ExportOptions(fold=True)
    )
    layer = Config.fromfile(model['config']).model.kd_layers.penult
    assert (layer.module, layer.output_index) == ('backbone', 0)
    assert layer.layer == dict(type='mmkdlayer.FoldedKDLayer') and 'alpha' not in layer


def test_a_layer_that_only_was_supervised_is_gone(training, tmp_path, make_batch):
    training.cfg.model.distiller.kd_layers.inter.alpha = 0.0
    plain = export_student(training.cfg, training.checkpoint, tmp_path / 'plain')
    folded = export_student(
        training.cfg, training.checkpoint, tmp_path / 'folded', ExportOptions(fold=True)
    )
    assert [change for change in folded['changes'] if ' inter:' in change] == [
        'KD layer inter: 6 of 6 templates add nothing (alpha is 0); the layer is removed'
    ]
    student = load_student(tmp_path / 'folded')
    assert set(student.kd_layers) == {'penult'}
    inputs, _ = make_batch()
    expected = load_student(plain['config'].parent)(inputs)
    torch.testing.assert_close(student(inputs), expected, atol=1e-5, rtol=0)


def test_all_layers_may_be_gone(training, tmp_path, photos):
    for layer in training.cfg.model.distiller.kd_layers.values():
        layer.alpha = 0.0
    options = ExportOptions(prune_templates=str(photos))
    export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    assert not hasattr(load_student(tmp_path / 'out'), 'kd_layers')


@pytest.mark.parametrize('limit', [None, 7])
def test_pruning_leaves_the_logits_on_the_images(limit, sparse, tmp_path, photos):
    out = tmp_path / 'out'
    options = ExportOptions(prune_templates=str(photos), prune_images=limit)
    result = export_student(sparse.cfg, sparse.checkpoint, out, options)
    trained, pruned = sparse.model.student, load_student(out)
    loader = calibration_loader(sparse.cfg, str(photos), limit)
    inputs = torch.cat([trained.data_preprocessor(batch)['inputs'] for batch in loader])
    assert len(inputs) == (limit or IMAGES)

    # what fires, by the trained layers' own parts
    fires = {}
    for name, layer in trained.kd_layers.items():
        layer.bn.register_forward_hook(
            lambda module, args, out, name=name: fires.update({name: (out > 0).flatten(2)})
        )
    expected = trained(inputs)
    for name, layer in pruned.kd_layers.items():
        kept = int(fires[name].any(2).any(0).sum())
        assert 0 < kept < trained.kd_layers[name].num_templates
        assert layer.num_templates == kept
    torch.testing.assert_close(pruned(inputs), expected, atol=1e-5, rtol=0)

    watched = f'the images of a folder ({limit or IMAGES} images)'
    reports = [change for change in result['changes'] if 'do not fire' in change]
    assert len(reports) == 2 and all(watched in report for report in reports)
    page = result['card'].read_text()
    assert all(report in page for report in reports)
    if limit is None:
        assert reports[0] == f'KD layer inter: 2 of 6 templates do not fire on {watched}'


def test_a_folded_export_is_pruned(sparse, tmp_path, photos):
    export_student(sparse.cfg, sparse.checkpoint, tmp_path / 'a', ExportOptions(fold=True))
    cfg = Config.fromfile(tmp_path / 'a' / 'student.py')
    options = ExportOptions(prune_templates=str(photos))
    export_student(cfg, tmp_path / 'a' / 'student.pth', tmp_path / 'b', options)
    assert load_student(tmp_path / 'b').kd_layers.inter.num_templates == 4


def test_a_layer_of_which_nothing_fires_is_refused(sparse, tmp_path, photos):
    content = torch.load(sparse.checkpoint, weights_only=False)
    content['state_dict']['architecture.kd_layers.penult.bn.bias'] -= 0.5
    torch.save(content, sparse.checkpoint)
    options = ExportOptions(prune_templates=str(photos))
    with pytest.raises(ConfigError, match='KD layer penult: none of its 5 templates fires on the'):
        export_student(sparse.cfg, sparse.checkpoint, tmp_path / 'out', options)
    assert not (tmp_path / 'out').exists()


def test_the_images_of_the_config(make_config, classifier_config, photos):
    cfg = make_config(classifier_config())
    for name in ('train_dataloader', 'test_dataloader'):
        cfg[name].dataset.update(data_root=str(photos), metainfo=None)
    cfg.test_dataloader.dataset.data_root = str(photos / 'b')
    cfg.train_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile'), dict(type='Nothing')]
    for name, count in (('train', IMAGES), ('test', IMAGES // 2)):
        loader = calibration_loader(cfg, name)
        assert len(loader.dataset) == count
        assert sum(len(batch['inputs']) for batch in loader) == count
    few = calibration_loader(cfg, 'train', images=5)
    again = calibration_loader(cfg, 'train', images=5)
    assert few.dataset.indices == again.dataset.indices != list(range(5))


def test_images_that_are_not_there(make_config, classifier_config, tmp_path):
    cfg = make_config(classifier_config())
    with pytest.raises(ConfigError, match=r"'val'.*\['train_dataloader', 'test_dataloader'\]"):
        calibration_loader(cfg, 'val')
    with pytest.raises(ConfigError, match=r"nowhere'.*no such folder"):
        calibration_loader(cfg, str(tmp_path / 'nowhere'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match=r"empty'.*Found 0 files"):
        calibration_loader(cfg, str(tmp_path / 'empty'))


def test_a_folder_for_a_student_whose_data_set_holds_arrays(
    make_config, classifier_config, tmp_path
):
    """The pipeline of CIFAR loads no files; images of two sizes are no obstacle to those that resize."""
    from PIL import Image

    cfg = make_config(classifier_config())
    for side in (32, 48):
        Image.new('RGB', (side, side), 'red').save(tmp_path / f'{side}.png')
    cfg.test_dataloader.dataset = dict(type='CIFAR100', pipeline=[dict(type='PackInputs')])
    loader = calibration_loader(cfg, str(tmp_path))
    assert loader.dataset[0]['inputs'][:, 0, 0].tolist() == [255, 0, 0]  # RGB, as CIFAR is
    with pytest.raises(DataError, match=r'48x48, but the student takes images of 32x32'):
        loader.dataset[1]
