"""What is kept of images, however many there are."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from command_line import CONFIG, TINY, write_images
from filled_decisions import fill_decisions
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkdlayer.report import networks_of_training, predictions
from mmkdlayer.report.collecting import collect
from mmkdlayer.report.images import Images

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


def test_what_is_kept_does_not_grow_with_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, 'MOST_PICTURES', 3)
    data = write_images(tmp_path / 'few', classes=2)
    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmpretrain')
    cfg.merge_from_dict({k: v for k, v in TINY.items() if k.startswith(('model.', 'val_'))})
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    fill_decisions(model, torch.randn(2, 3, 64, 64))
    networks = networks_of_training(model, cfg)

    def kept(folder: Path) -> tuple[int, int]:
        loader = dict(cfg.val_dataloader, persistent_workers=False, num_workers=0)
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=32),
            dict(type='PackInputs'),
        ]
        loader['dataset'] = dict(loader['dataset'], data_root=str(folder), pipeline=pipeline)
        images = Images(networks, Config(dict(loader=loader)).loader)
        found = collect(networks, images, examples=1, kept=1)
        for layer in found.layers.values():
            layer.decision = None
            for one in (layer.teacher, layer.agreement):
                one.decision = None
        return len(images), len(pickle.dumps(found))

    few, size = kept(data)
    shutil.copytree(data, tmp_path / 'many')
    for file in list((tmp_path / 'many' / 'test').rglob('*.png')):
        for copy in range(4):
            shutil.copy(file, file.with_name(f'{file.stem}_{copy}.png'))
    many, larger = kept(tmp_path / 'many')
    assert (few, many) == (8, 40)
    # Four numbers of an image remain: its index, its label, and the answers of student and teacher.
    assert larger - size <= (many - few) * 4 * 8 + 500
