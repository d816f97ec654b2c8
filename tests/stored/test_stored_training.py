"""Trainings on stored decisions against trainings with the teacher on the same views."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from stored_training import drawn_config, store_of, train, with_logit_kd

from mmkdlayer.engine.signals import WATCH
from mmkdlayer.errors import ConfigError
from mmkdlayer.stored import StoredViews, use_store

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('stores')
    return store_of(folder / 'store', drawn_config(folder))


def with_live_teacher(cfg: Config, store: Path) -> Config:
    """The teacher itself, on the views of a store."""
    loader = cfg.train_dataloader
    dataset = ConfigDict(type='mmkdlayer.StoredViews', dataset=loader.dataset, store=str(store))
    loader.dataset = dataset
    loader.sampler = ConfigDict(type='mmkdlayer.view_sampler', sampler=loader.sampler)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if 'Fit' not in hook['type']]
    return cfg


def test_teaches_what_the_teacher_would(store: Path, tmp_path: Path) -> None:
    runner, found = train(drawn_config(tmp_path / 'stored'), store)
    _, expected = train(with_live_teacher(drawn_config(tmp_path / 'live'), store))
    assert not list(runner.model.teacher.parameters())
    assert {key.split('.')[0] for key in runner.model.state_dict()} == {'architecture'}
    assert len(found) == len(expected) == 9
    assert found[0]['distill.loss_inter'] == pytest.approx(
        expected[0]['distill.loss_inter'], abs=1e-5
    )
    for ours, theirs in zip(found, expected):
        assert ours['images'] == theirs['images']
        assert ours['pixels'] == theirs['pixels']
        for name in ('distill.loss_inter', 'distill.loss_penult', 'student.loss'):
            # Probabilities of centroids are stored in half precision.
            assert ours[name] == pytest.approx(theirs[name], abs=1e-3 if 'penult' in name else 2e-4)


def views_of(steps: list[dict], store: Path) -> list[tuple[int, int]]:
    """Image and view of everything that was trained on, by the pixels."""
    dataset = StoredViews(ConfigDict(type='DrawnImages'), store)
    known = {
        float(dataset.render(image, view)['inputs'][0, 0, 0]): (image, view)
        for image in range(12)
        for view in range(dataset.store.views)
    }
    return [known[pixel] for step in steps for pixel in step['pixels']]


def test_views_follow_the_epochs_also_in_persistent_workers(store: Path, tmp_path: Path) -> None:
    workers = dict(num_workers=2, persistent_workers=True, prefetch_factor=3)
    changes = {f'train_dataloader.{name}': value for name, value in workers.items()}
    _, steps = train(drawn_config(tmp_path / 'work', **changes), store)
    seen = views_of(steps, store)
    for epoch in range(3):
        assert sorted(seen[12 * epoch : 12 * epoch + 12]) == [(i, epoch % 2) for i in range(12)]


def test_resumes_within_an_epoch(store: Path, tmp_path: Path) -> None:
    """Training that a signal ended in its second epoch goes on with the same losses."""
    _, whole = train(drawn_config(tmp_path / 'whole'), store)
    hooks = [
        dict(type='mmkdlayer.PreemptionHook'),
        dict(type='Interrupt', iteration=3),
    ]
    cfg = drawn_config(tmp_path / 'cut')
    cfg.custom_hooks += hooks
    with pytest.raises(SystemExit):
        train(cfg, store)
    WATCH.stop()
    cfg = drawn_config(tmp_path / 'cut')
    cfg.custom_hooks += hooks[:1]
    _, rest = train(cfg, store, resume=True, load_from=str(tmp_path / 'cut' / 'interrupted.pth'))
    assert len(rest) in (4, 5)
    for ours, theirs in zip(rest, whole[-len(rest) :]):
        assert ours['pixels'] == theirs['pixels']
        assert ours['loss'] == pytest.approx(theirs['loss'], abs=1e-5)


def test_loop_by_iterations(store: Path, tmp_path: Path) -> None:
    for sampler in ('InfiniteSampler', 'DefaultSampler'):
        cfg = drawn_config(tmp_path / sampler)
        cfg.train_cfg = dict(by_epoch=False, max_iters=9)
        cfg.train_dataloader.sampler = dict(type=sampler, shuffle=True)
        _, steps = train(cfg, store)
        seen = views_of(steps, store)
        assert seen[:12] != seen[24:]
        for epoch in range(3):
            assert sorted(seen[12 * epoch : 12 * epoch + 12]) == [(i, epoch % 2) for i in range(12)]


BALANCED = dict(type='ClassBalancedDataset', oversample_thr=0.3)


@pytest.mark.parametrize('wrapper', [dict(type='RepeatDataset', times=2), BALANCED])
def test_repeated_images_are_seen_in_other_views(wrapper: dict, tmp_path: Path) -> None:
    cfg = drawn_config(tmp_path / 'work', **{'train_cfg.max_epochs': 2})
    cfg.train_dataloader.dataset = dict(wrapper, dataset=cfg.train_dataloader.dataset)
    store = store_of(tmp_path / 'store', cfg, views=4)
    _, steps = train(cfg, store)
    seen = views_of(steps, store)
    often = [image for image in range(12) if wrapper['type'] == 'RepeatDataset' or image == 0]
    for image in range(12):
        views = [view for found, view in seen if found == image]
        assert sorted(views) == list(range(4 if image in often else 2))


def test_with_averaged_weights_and_mixed_precision(store: Path, tmp_path: Path) -> None:
    cfg = drawn_config(tmp_path / 'work')
    cfg.custom_hooks.append(dict(type='EMAHook'))
    cfg.optim_wrapper.update(type='mmkdlayer.BFloat16OptimWrapper')
    _, steps = train(cfg, store)
    assert all(torch.isfinite(torch.tensor(step['loss'])) for step in steps)


def test_metrics_are_those_of_the_teacher(store: Path, tmp_path: Path) -> None:
    found = []
    for name in ('stored', 'live'):
        cfg = drawn_config(tmp_path / name, **{'train_cfg.max_epochs': 1})
        cfg.custom_hooks.append(dict(type='mmkdlayer.KDMetricsHook', interval=1, details=True))
        runner, _ = train(cfg, store) if name == 'stored' else train(with_live_teacher(cfg, store))
        scalars = runner.message_hub.log_scalars
        found.append({key: scalars[key].current() for key in scalars if 'kd/' in key})
    assert len(found[0]) == 12
    assert found[0] == pytest.approx(found[1], abs=1e-2)


def test_logits_are_those_of_the_teacher(tmp_path: Path) -> None:
    changes = {'train_cfg.max_epochs': 1}
    store = store_of(tmp_path / 'store', drawn_config(tmp_path), views=1, logits=3)
    _, found = train(with_logit_kd(drawn_config(tmp_path / 'a', **changes)), store)
    live = with_live_teacher(drawn_config(tmp_path / 'b', **changes), store)
    _, expected = train(with_logit_kd(live))
    for ours, theirs in zip(found, expected):
        assert ours['distill.loss_kl'] == pytest.approx(theirs['distill.loss_kl'], rel=1e-2)
        assert ours['distill.loss_kl'] > 1e-5


def test_recorders_of_other_things_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'fc reads the teacher .*\(head.fc\).* no logits are in'):
        use_store(with_logit_kd(drawn_config(tmp_path)), str(store))
    other = store_of(tmp_path / 'store', drawn_config(tmp_path), views=1, logits=2)
    cfg = with_logit_kd(drawn_config(tmp_path))
    cfg.model.distiller.teacher_recorders.fc.source = 'backbone'
    with pytest.raises(
        ConfigError, match=r'\(backbone\).* its logits are stored \(head, head.fc\)'
    ):
        use_store(cfg, str(other))
