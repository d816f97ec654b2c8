"""Stored decisions that are not those of a training: an error that says what differs."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from stored_training import DrawnImages, drawn_config, store_of

from mmkdlayer.errors import ConfigError, DecisionFileError, StoreError
from mmkdlayer.models import CentroidDecision
from mmkdlayer.stored import use_store
from mmkdlayer.stored.checks import check_stored
from mmkdlayer.stored.files import MANIFEST, read_manifest, write_manifest

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@DATASETS.register_module()
class LouderImages(DrawnImages):
    """What another version of a library would draw."""

    def __getitem__(self, index: int) -> dict:
        found = super().__getitem__(index)
        return dict(found, inputs=1.0001 * found['inputs'])


@DATASETS.register_module()
class RelabelledImages(DrawnImages):
    def get_data_info(self, index: int) -> dict:
        return dict(super().get_data_info(index), gt_label=0)


@DATASETS.register_module()
class RenamedClasses(DrawnImages):
    metainfo = dict(classes=['class 0', 'another', 'class 2'])


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('stores')
    return store_of(folder / 'store', drawn_config(folder))


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmpretrain')


@pytest.fixture
def copied(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / 'store'))


def check(cfg: Config, store: Path) -> bool:
    """What StoredDecisionsHook does before the first step."""
    use_store(cfg, str(store))
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    check_stored(MODELS.build(cfg.model), loader, cfg.train_dataloader.dataset.dataset)
    return True


def shard_of(store: Path) -> Path:
    return sorted(store.glob('view0001/*.npy'))[0]


def change_byte(store: Path) -> None:
    content = bytearray(shard_of(store).read_bytes())
    content[-1] ^= 1
    shard_of(store).write_bytes(content)


def change_manifest(store: Path, change: Callable[[dict], Any]) -> None:
    content = read_manifest(store / MANIFEST)
    change(content)
    write_manifest(store / MANIFEST, {k: v for k, v in content.items() if k != 'sha256'})


def another_version(store: Path) -> None:
    change_manifest(store, lambda content: content['versions'].update(torch='1.0'))


STORES: dict[str, tuple[Callable[[Path], Any], str]] = {
    'no store': (shutil.rmtree, 'holds no stored decisions'),
    'a missing shard': (lambda store: shard_of(store).unlink(), 'npy is missing'),
    'a changed byte': (change_byte, 'npy has another SHA-256 than was written'),
    'a shorter shard': (lambda s: shard_of(s).write_bytes(b'x'), 'has 1 bytes, but'),
    'a changed manifest': (
        lambda s: (s / MANIFEST).write_text((s / MANIFEST).read_text().replace('12', '13', 1)),
        'it was changed or damaged',
    ),
    'a missing decision': (lambda s: (s / 'decisions/inter.safetensors').unlink(), 'is missing'),
    'a layer that is not there': (
        lambda s: change_manifest(s, lambda content: content['kd_layers'].pop('penult')),
        'kd_layers.penult: .* has decisions for inter alone',
    ),
    'another temperature': (
        lambda s: change_manifest(
            s, lambda c: c['kd_layers']['penult']['settings'].update(temperature=2.0)
        ),
        r'kd_layers.penult.decision.temperature is 1.0, but .* were made with 2.0',
    ),
    'another grid': (
        lambda s: change_manifest(s, lambda c: c['kd_layers']['inter'].update(grid=[2, 2])),
        'the map of the student is 4x4, but the decisions are stored for 2x2 positions',
    ),
}


@pytest.mark.parametrize('name', STORES)
def test_a_store_that_does_not_fit(name: str, copied: Path, tmp_path: Path) -> None:
    damage, words = STORES[name]
    damage(copied)
    with pytest.raises((StoreError, ConfigError), match=words):
        check(drawn_config(tmp_path / 'work'), copied)


TRAININGS: dict[str, tuple[dict[str, Any], str]] = {
    'fewer images': (
        {'train_dataloader.dataset.length': 11},
        'are of 12 images, but the training set has 11',
    ),
    'other labels': (
        {'train_dataloader.dataset.type': 'RelabelledImages'},
        'the names of the images, their order or their labels were others',
    ),
    'other classes': (
        {'train_dataloader.dataset.type': 'RenamedClasses'},
        'class 1 was class 1 and is another',
    ),
    'another pipeline': (
        {'train_dataloader.dataset.pipeline': [dict(type='RandomFlip', prob=0.5)]},
        'there were 0 steps in the pipeline and are 1',
    ),
    'another drawing': (
        {'train_dataloader.dataset.type': 'LouderImages'},
        '12 of 12 views that were rendered again, such as view 0 of 0.png, .*versions .* are the same',
    ),
    'other sizes': (
        {'model.distiller.kd_layers.penult.decision.num_centroids': 4},
        'num_centroids is 4 in the config and 5 in the file',
    ),
    'mixed images': (
        {'model.data_preprocessor.batch_augments': dict(augments=[dict(type='CutMix', alpha=1.0)])},
        'batch_augments mixes images of a batch',
    ),
}


@pytest.mark.parametrize('name', TRAININGS)
def test_a_training_that_does_not_fit(name: str, store: Path, tmp_path: Path) -> None:
    changes, words = TRAININGS[name]
    with pytest.raises((StoreError, ConfigError, DecisionFileError), match=words):
        check(drawn_config(tmp_path / 'work', **changes), store)


def test_versions_are_named_where_views_differ(copied: Path, tmp_path: Path) -> None:
    another_version(copied)
    cfg = drawn_config(tmp_path / 'work', **{'train_dataloader.dataset.type': 'LouderImages'})
    with pytest.raises(StoreError, match=rf'are of: torch was 1.0 and is {version("torch")}'):
        check(cfg, copied)


def test_another_version_that_draws_the_same_is_used(copied: Path, tmp_path: Path) -> None:
    another_version(copied)
    assert check(drawn_config(tmp_path / 'work'), copied)


def test_a_decision_file_must_have_the_tables_of_the_store(store: Path, tmp_path: Path) -> None:
    key = 'model.distiller.kd_layers.penult.decision.file'
    own = store / 'decisions' / 'penult.safetensors'
    assert check(drawn_config(tmp_path / 'same', **{key: str(own)}), store)
    other = tmp_path / 'other.safetensors'
    CentroidDecision.from_tables(CentroidDecision.load(own).centroids + 1).save(other)
    with pytest.raises(ConfigError, match='whose tables are not those that the decisions in'):
        check(drawn_config(tmp_path / 'other', **{key: str(other)}), store)
