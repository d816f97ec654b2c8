"""Reports of students of all kinds: tokens, letKD-1, mixes with and without teachers, no labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CONFIG, ROOT, TINY, write_images
from filled_decisions import fill_decisions
from mix_training import load_offline, shrink, side_of
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkdlayer.report import ReportOptions, measuring, networks_of_training, write_report
from mmkdlayer.report.predictions import Predictions

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def build(cfg: Config, side: int) -> Any:
    model = MODELS.build(cfg.model)
    if not hasattr(model, 'generator'):
        fill_decisions(model, torch.randn(2, 3, side, side))
    return model


def write(cfg: Config, model: Any, out: Path, **options: Any) -> str:
    networks = networks_of_training(model, cfg)
    options = dict(dict(probe_images=0, patches=2), **options)
    return write_report(networks, cfg, out, 'student', {}, ReportOptions(**options)).read_text()


def folder_config(path: Path, data: Path, **changes: Any) -> Config:
    cfg = Config.fromfile(path)
    init_default_scope('mmpretrain')
    known = {k: v for k, v in TINY.items() if k.startswith(('model.', 'val_'))}
    cfg.merge_from_dict(known if path == CONFIG else {'val_dataloader.num_workers': 0})
    cfg.merge_from_dict(changes)
    for loader in (cfg.val_dataloader, cfg.train_dataloader):
        loader.persistent_workers = False
        loader.dataset.data_root = str(data)
    return cfg


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('kinds'))


def test_tokens(tmp_path: Path) -> None:
    data = write_images(tmp_path / 'images', classes=2)
    cfg = folder_config(ROOT / 'configs' / 'kdlayer' / 'folder_example_vit.py', data)
    page = write(cfg, build(cfg, 64), tmp_path / 'report')
    assert 'Layer inter:' in page and 'agreement with the teacher' in page


def test_letkd1_and_a_loss_of_logits(data: Path, tmp_path: Path) -> None:
    cfg = folder_config(CONFIG, data)
    del cfg.model.distiller.kd_layers['inter']
    page = write(cfg, build(cfg, 64), tmp_path)
    assert 'centroids' in page and 'sub-classes</h3>' not in page


def test_images_without_labels(data: Path, tmp_path: Path) -> None:
    cfg = folder_config(CONFIG, data)
    cfg.val_dataloader.dataset.update(with_label=False, data_prefix='test', classes=None)
    page = write(cfg, build(cfg, 64), tmp_path)
    assert 'accuracy of the student' not in page and 'centroid ' in page
    # What the teacher decides about sub-classes is not known without labels.
    assert 'agreement on the class' not in page


def test_a_label_beyond_the_classes_is_that_of_one_image(data: Path, tmp_path: Path) -> None:
    cfg = folder_config(CONFIG, data)
    files = sorted((data / 'test').rglob('*.*'))
    lines = [f'{file.relative_to(data)} {i % 2}' for i, file in enumerate(files)]
    lines[1] = f'{files[1].relative_to(data)} 7'
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    cfg.val_dataloader.dataset.update(
        ann_file=str(tmp_path / 'list.txt'), data_prefix='', classes=['a', 'b']
    )
    write(cfg, build(cfg, 64), tmp_path, probe_images=0)
    stored = Predictions.load(tmp_path)
    assert stored.labels.tolist() == [0, -1, *(i % 2 for i in range(2, len(files)))]
    page = (tmp_path / 'index.html').read_text()
    assert f'1 of the images count as unlabelled, such as {files[1].name}' in page
    assert 'with 2 classes, labels must be 0 to 1' in page and 'agreement on the class' in page


@pytest.mark.parametrize(
    ('name', 'classes', 'teacher'),
    [
        ('byot_resnet18_cifar100_kdlayer', 100, False),
        pytest.param('kd_resnet34_resnet18_in1k_kdlayer', 1000, True, marks=pytest.mark.slow),
        ('dafl_resnet34_resnet18_cifar10_kdlayer', 10, True),
    ],
)
def test_mixes(name: str, classes: int, teacher: bool, tmp_path: Path) -> None:
    cfg = load_offline(ROOT / 'configs' / 'mix' / f'{name}.py')
    shrink(cfg, classes, tmp_path)
    page = write(cfg, build(cfg, side_of(classes)), tmp_path / 'report')
    assert '2. What the student matches' in page
    assert ('agreement with the teacher' in page) == teacher
    assert ('No teacher was run' in page) != teacher


def test_what_can_not_be_measured_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('sklearn', reason='the geometry probe needs scikit-learn')
    cfg = folder_config(CONFIG, write_images(tmp_path / 'images', classes=2))
    model = build(cfg, 64)
    # Of several processes the first alone is here: nothing may wait for the others.
    monkeypatch.setattr(measuring, 'get_world_size', lambda: 2)
    steps: list[Any] = []
    model.register_forward_pre_hook(lambda *_: steps.append(_))
    page = write(cfg, model, tmp_path, probe_images=2)  # no more than classes
    assert 'not timed, since the training had several processes' in page and not steps
    assert 'No geometry probe (section 3) of student: ' in page
    assert '4. Curves and cost' in page and 'backward pass' not in page
