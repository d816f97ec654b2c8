"""What the teacher decides about each view is what is stored, in equal bytes however it came to be."""

from __future__ import annotations

import errno
import random
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from made_up_store import spread
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from seeded_training import SeededImages, make_config

from mmkdlayer.errors import (
    ConfigError,
    DataError,
    ResourceError,
    StoreError,
    UnfittedDecisionError,
)
from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision
from mmkdlayer.stored import files
from mmkdlayer.stored.files import Store
from mmkdlayer.stored.views import hash_view, render_view
from storing import planning
from storing.planning import StoreOptions
from storing.rendering import TRIED
from storing.store import store_decisions


@DATASETS.register_module()
class NoisyImages(SeededImages):
    """Images with noise from the generators of python, numpy and torch."""

    broken: tuple[int, ...] = ()
    larger: tuple[int, ...] = ()
    own_generator = None
    soft = False

    def __getitem__(self, index: int) -> dict:
        if index in self.broken:
            raise OSError('cannot identify image file')
        found = super().__getitem__(index)
        noise = random.gauss(0, 1) + np.random.randn(1, 16, 16)  # noqa: NPY002
        found['inputs'] += torch.from_numpy(noise).float() + torch.randn(3, 1, 1)
        if self.own_generator is not None:
            found['inputs'] += self.own_generator.random()
        if index in self.larger:
            found['inputs'] = found['inputs'].repeat(1, 2, 2)
        if self.soft:
            found['data_samples'] = DataSample().set_gt_score(torch.tensor([0.5, 0.5, 0]))
        return found


@pytest.fixture(autouse=True)
def few_images_in_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, 'LEAST_IMAGES', 4)
    monkeypatch.setattr(files, 'VIEW_SHARDS', 2)


@pytest.fixture
def job(
    make_distillation: Callable, distillation_config: Callable, tmp_path: Path
) -> tuple[Any, Any]:
    """A distillation model with made-up decisions, and its config with 14 images."""
    cfg = make_config(distillation_config(), tmp_path)
    cfg.train_dataloader.dataset.update(type='NoisyImages', length=14)
    init_default_scope('mmpretrain')
    return make_distillation(cfg.model.to_dict()), cfg


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_each_record_is_what_the_teacher_decides_about_the_view(job: tuple, tmp_path: Path) -> None:
    model, cfg = job
    torch.manual_seed(0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    store = store_decisions(model, cfg, tmp_path / 's', StoreOptions(2, seed=3, logits=2))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert after == before
    assert model.training
    store.check()
    inter = SubclassDecision.load(store.decision_file('inter'))
    penult = CentroidDecision.load(store.decision_file('penult'))
    teacher, maps = model.teacher.eval(), {}
    for name, module in (
        ('inter', teacher.backbone.layer3[0]),
        ('penult', teacher.backbone.layer3),
    ):
        module.register_forward_hook(lambda m, args, out, name=name: maps.update({name: out}))
    dataset, hashes = DATASETS.build(cfg.train_dataloader.dataset), set()
    for index in range(14):
        for view in range(2):
            record = {
                name: torch.from_numpy(value.astype(float))
                for name, value in store.read(view, index).items()
            }
            rendered = render_view(dataset, index, view, 3)
            hashes.add(int(store.read(view, index)['hash']))
            assert hash_view(rendered['inputs']) in hashes
            with torch.no_grad():
                logits = teacher(rendered['inputs'][None], mode='tensor')[0]
            expected = inter.decide(maps['inter'], torch.tensor([index % 3]))[0]
            found = inter.decisions[record['inter.rows'].long()].permute(2, 0, 1)
            assert torch.allclose(found, expected, atol=1e-6)
            expected = penult.decide(maps['penult'])[0].flatten(1).t()
            rows, kept = (record[f'penult.{n}'].flatten(0, 1) for n in ('rows', 'probabilities'))
            assert torch.allclose(kept.float(), expected.gather(1, rows.long()), atol=1e-3)
            error = (spread(rows, kept, 5) - expected).abs().sum(1)
            assert (error <= 2 * (1 - kept.sum(1)) + 1e-5).all() and error.mean() < 0.02
            values, columns = logits.topk(2)
            assert record['logits.rows'].tolist() == columns.tolist()
            assert torch.allclose(record['logits.values'].float(), values, atol=2e-3)
            others = sum(float(v) for v in logits) - float(values.sum())
            assert float(record['logits.rest']) == pytest.approx(others, abs=5e-3)  # of 3 classes
    assert len(hashes) == 28


def test_k_leaves_out_one_percent_and_the_manifest_says_what_is_stored(
    job: tuple, tmp_path: Path
) -> None:
    model, cfg = job
    model.distiller.distill_losses['loss_penult'].decision.temperature = 0.001
    manifest = store_decisions(model, cfg, tmp_path / 's', StoreOptions(1)).manifest
    penult, inter = manifest['kd_layers']['penult'], manifest['kd_layers']['inter']
    assert penult['top_k'] == 4 and penult['settings']['temperature'] == 0.001  # flat: of 5
    assert inter['top_k'] is None and inter['grid'] == penult['grid'] == [4, 4]
    assert inter['source']['source'] == 'backbone.layer3.0'
    assert manifest['classes'] == SeededImages.metainfo['classes']
    assert manifest['data']['images'] == 14 and manifest['view_shape'] == [3, 16, 16]
    assert manifest['logits'] is None and 'torch' in manifest['versions']
    assert [s['images'] for s in manifest['shards']] == [8, 6]


def test_an_image_that_fails_loses_nothing_and_the_rest_is_stored_later(
    job: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, cfg = job
    monkeypatch.setattr(planning, 'SAMPLE', 2)  # not the broken one
    options = StoreOptions(2, interval=0)
    store_decisions(model, cfg, tmp_path / 'whole', options)
    with monkeypatch.context() as patch:
        patch.setattr(NoisyImages, 'broken', (13,))
        with pytest.raises(DataError, match=r'13\.png .*cannot identify'):
            store_decisions(model, cfg, tmp_path / 's', options)
        patch.setattr(NoisyImages, 'broken', (1,))  # of those that are drawn twice
        with pytest.raises(DataError, match=r'1\.png .*cannot identify'):
            store_decisions(model, cfg, tmp_path / 's', options)
    assert len(list((tmp_path / 's').rglob('*.begun'))) == 1
    with pytest.raises(StoreError, match='not finished'):
        Store.open(tmp_path / 's')
    rendered: list[int] = []
    plain = NoisyImages.__getitem__
    monkeypatch.setattr(
        NoisyImages, '__getitem__', lambda self, i: rendered.append(i) or plain(self, i)
    )
    store_decisions(model, cfg, tmp_path / 's', options)
    assert contents(tmp_path / 's') == contents(tmp_path / 'whole')
    tried = 2 + 2 * TRIED  # shapes, and that they can be drawn again
    assert rendered[tried:] == [12, 13, *range(14)]
    rendered.clear()
    store_decisions(model, cfg, tmp_path / 's', options)
    assert len(rendered) == tried
    more = store_decisions(model, cfg, tmp_path / 's', StoreOptions(3))
    assert more.views == 3
    for name, content in contents(tmp_path / 'whole').items():
        if name.startswith('view'):
            assert (tmp_path / 's' / name).read_bytes() == content
    assert store_decisions(model, cfg, tmp_path / 's', StoreOptions(1)).views == 3


def test_data_workers_give_the_same_bytes(job: tuple, tmp_path: Path) -> None:
    model, cfg = job
    store_decisions(model, cfg, tmp_path / 'one', StoreOptions(2))
    cfg.train_dataloader.num_workers = 2
    store_decisions(model, cfg, tmp_path / 'two', StoreOptions(2))
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two')


def test_all_logits_are_stored_where_more_are_asked_for(job: tuple, tmp_path: Path) -> None:
    for _ in range(2):  # the second time it goes on
        store = store_decisions(*job, tmp_path / 's', StoreOptions(1, logits=1000))
        assert store.manifest['logits']['top_k'] == store.manifest['logits']['classes'] == 3


def other_table(model: Any, cfg: Any) -> None:
    decision = model.distiller.distill_losses['loss_inter'].decision
    decision.set_tables(**dict(decision._tables, offset=decision.offset + 1))


def other_teacher(model: Any, cfg: Any) -> None:
    model.teacher.head.fc.bias.data += 1


CHANGES: dict[str, tuple[Callable[[Any, Any], object], StoreOptions, str]] = {
    'seed': (lambda m, c: None, StoreOptions(2, seed=1), 'seed was 0 and is 1'),
    'logits': (lambda m, c: None, StoreOptions(2, logits=3), 'logits was None and is 3'),
    'images': (
        lambda m, c: c.train_dataloader.dataset.update(length=13),
        StoreOptions(2),
        'there were 14 images and are 13',
    ),
    'pipeline': (
        lambda m, c: c.train_dataloader.dataset.update(pipeline=[dict(type='RandomFlip')]),
        StoreOptions(2),
        'there were 0 steps in the pipeline and are 1',
    ),
    'batch': (
        lambda m, c: (
            c.train_dataloader.update(batch_size=3),
            c.val_dataloader.update(batch_size=3),
        ),
        StoreOptions(2),
        'batch_size was 4 and is 3',
    ),
    'teacher': (other_teacher, StoreOptions(2), 'teacher was .*weights'),
    'table': (other_table, StoreOptions(2), 'of kd_layers.inter, tables was'),
}


@pytest.mark.parametrize('change, options, words', CHANGES.values(), ids=CHANGES)
def test_a_store_of_something_else_is_not_continued(
    job: tuple, tmp_path: Path, change: Callable, options: StoreOptions, words: str
) -> None:
    model, cfg = job
    store_decisions(model, cfg, tmp_path / 's', StoreOptions(2))
    before = contents(tmp_path / 's')
    change(model, cfg)
    with pytest.raises(StoreError, match=f'stored of something else: .*{words}') as caught:
        store_decisions(model, cfg, tmp_path / 's', options)
    assert 'Choose another --out' in str(caught.value)
    assert contents(tmp_path / 's') == before


def test_what_can_not_be_stored_is_refused(
    job: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, cfg = job
    monkeypatch.setattr(NoisyImages, 'own_generator', random.Random(0))
    with pytest.raises(ConfigError, match='draws other views from the same seed'):
        store_decisions(model, cfg, tmp_path / 's', StoreOptions(1))
    monkeypatch.setattr(NoisyImages, 'own_generator', None)
    monkeypatch.setattr(NoisyImages, 'larger', (9,))
    with pytest.raises(DataError, match=r'9.png .*view 0 has the shape \(3, 32, 32\)'):
        store_decisions(model, cfg, tmp_path / 's', StoreOptions(1))
    monkeypatch.setattr(NoisyImages, 'larger', ())
    monkeypatch.setattr(NoisyImages, 'soft', True)
    with pytest.raises(DataError, match='several classes'):
        store_decisions(model, cfg, tmp_path / 's', StoreOptions(1))
    monkeypatch.setattr(
        model.teacher, 'forward', lambda inputs, mode: model.teacher.extract_feat(inputs)
    )
    with pytest.raises(ConfigError, match='--logits expects one teacher that returns logits'):
        store_decisions(model, cfg, tmp_path / 't', StoreOptions(1, logits=2))
    losses = model.distiller.distill_losses
    losses['loss_penult'].decision = CentroidDecision(5)
    with pytest.raises(UnfittedDecisionError):
        store_decisions(model, cfg, tmp_path / 't', StoreOptions(1))
    del losses['loss_penult']
    model.distiller.loss_forward_mappings['loss_logits'] = (
        model.distiller.loss_forward_mappings.pop('loss_inter')
    )
    losses['loss_logits'] = losses.pop('loss_inter')
    with pytest.raises(ConfigError, match='rename kd_layers.logits'):
        store_decisions(model, cfg, tmp_path / 't', StoreOptions(1, logits=2))
    for name in list(losses):
        del losses[name]
    with pytest.raises(ConfigError, match='nothing to store'):
        store_decisions(model, cfg, tmp_path / 't', StoreOptions(1))


def test_a_disk_that_does_not_suffice_is_said_before(
    job: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(2000, 0, 2000))
    with pytest.raises(ResourceError, match=r'are still to be stored in .* 2.0 KiB are free'):
        store_decisions(*job, tmp_path / 's', StoreOptions(3))
    assert not list((tmp_path / 's').glob('view*'))


def test_a_disk_that_fills_meanwhile_loses_nothing(
    job: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.parent.name == 'view0001':
            write(path, content[:50])
            raise OSError(errno.ENOSPC, 'No space left on device')
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', full)
        with pytest.raises(ResourceError, match='view0001.* could not be written'):
            store_decisions(*job, tmp_path / 's', StoreOptions(2))
    assert len(list((tmp_path / 's' / 'view0000').iterdir())) == 2
    assert not list((tmp_path / 's' / 'view0001').iterdir())
    store_decisions(*job, tmp_path / 's', StoreOptions(2))
    store_decisions(*job, tmp_path / 'whole', StoreOptions(2))
    assert contents(tmp_path / 's') == contents(tmp_path / 'whole')
