"""Which networks and decisions a report has: with a teacher, without one, and of stored decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CONFIG, TINY
from filled_decisions import fill_decisions
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkdlayer.report import networks_of_training, open_networks
from mmkdlayer.stored import use_store

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@pytest.fixture
def cfg() -> Config:
    found = Config.fromfile(CONFIG)
    init_default_scope('mmpretrain')
    found.merge_from_dict({k: v for k, v in TINY.items() if k.startswith('model.')})
    return found


@pytest.fixture
def folder(cfg: Config, tmp_path: Path) -> Path:
    """A folder as of a training or a store: ``decisions``, and the teacher's weights."""
    model: Any = MODELS.build(cfg.model)
    fill_decisions(model, torch.randn(2, 3, 16, 16))
    for name, loss in model.distiller.distill_losses.items():
        loss.decision.save(tmp_path / 'decisions' / f'{name.removeprefix("loss_")}.safetensors')
    torch.save(model.teacher.state_dict(), tmp_path / 'teacher.pth')
    return tmp_path


def test_the_teacher_is_that_of_the_checkpoint(cfg: Config, folder: Path) -> None:
    """A config that names no weights goes by the one that the training has written."""
    trained = Config(cfg.to_dict())
    trained.model.teacher_ckpt = str(folder / 'teacher.pth')
    networks = open_networks(cfg, dict(cfg=trained.pretty_text), folder / 'decisions')
    assert networks.algorithm is not None and not networks.notes
    assert set(networks.supervised) == set(networks.decisions) == {'inter', 'penult'}


def test_without_weights_no_teacher_is_run(cfg: Config, folder: Path) -> None:
    networks = open_networks(cfg, {}, folder / 'decisions')
    assert networks.algorithm is None and not networks.supervised
    assert set(networks.decisions) == {'inter', 'penult'}
    assert 'the config names no weights of it' in networks.notes[0]


def test_a_missing_decision_is_named(cfg: Config, folder: Path) -> None:
    (folder / 'decisions' / 'inter.safetensors').unlink()
    cfg.model.teacher_ckpt = str(folder / 'teacher.pth')
    networks = open_networks(cfg, {}, folder / 'decisions')
    assert set(networks.decisions) == {'penult'}
    assert (
        'Layer inter: its decision is not fitted, and there is no inter.safetensors'
        in (networks.notes[0])
    )


def test_a_training_on_stored_decisions(cfg: Config, folder: Path) -> None:
    use_store(cfg, str(folder))
    algorithm: Any = MODELS.build(cfg.model)
    running = networks_of_training(algorithm, cfg)
    assert running.algorithm is None and 'stored decisions' in running.notes[0]
    assert set(running.layers) == {'inter', 'penult'}
    # Its config, as the training has written it, names the store.
    networks = open_networks(cfg, dict(cfg=cfg.pretty_text), folder / 'elsewhere')
    assert set(networks.decisions) == {'inter', 'penult'}
    assert 'No teacher was run' in networks.notes[0]
