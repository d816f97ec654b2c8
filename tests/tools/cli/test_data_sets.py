"""Data sets of configs: what is there, and that labels mean the same classes everywhere."""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from command_line import CONFIG, write_images
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CustomDataset

import cli
from mmkdlayer.config_variables import read_config
from mmkdlayer.errors import DataError

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
LOADERS = ('train_dataloader', 'val_dataloader')
CLASSES = ['bucket', 'goldfish', 'walking_stick']


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmpretrain')


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """``train`` and ``test`` with the folders of CLASSES."""
    root = write_images(tmp_path / 'data', train=2, test=2)
    for split in ('train', 'test'):
        for label, name in enumerate(CLASSES):
            (root / split / f'class_{label}').rename(root / split / name)
    return root


def folder(root: Path, split: str, **more: object) -> dict:
    return dict(type='CustomDataset', data_root=str(root), data_prefix=split, pipeline=[], **more)


def loaders(train: dict, val: dict) -> Config:
    return Config(dict(train_dataloader=dict(dataset=train), val_dataloader=dict(dataset=val)))


def both(root: Path, **more: object) -> Config:
    return loaders(folder(root, 'train', **more), folder(root, 'test', **more))


def message(cfg: Config, **more: object) -> str:
    with pytest.raises(DataError) as error:
        cli.check_data(cfg, LOADERS, **more)
    return str(error.value)


def test_data_that_can_download_itself_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.check_data(Config.fromfile(CONFIGS / 'kdlayer/resnet56_resnet20_cifar100.py'), LOADERS)
    text = message(Config.fromfile(CONFIGS / 'kdlayer/resnet34_resnet18_in1k.py'))
    assert 'data/imagenet' in text and '--data-root' in text


class TestNames:
    def test_same_names(self, data: Path) -> None:
        cli.check_data(both(data), LOADERS)
        cli.check_data(both(data, classes=CLASSES), LOADERS)
        cli.check_data(read_config(CONFIG, data_root=str(data)), LOADERS)
        # names for people have nothing in common with the folders
        cli.check_data(both(data, classes=['pail', 'carp', 'cane']), LOADERS)

    @pytest.mark.parametrize('more', [dict(), dict(classes=CLASSES)])
    def test_other_case(self, data: Path, more: dict) -> None:
        (data / 'test/walking_stick').rename(data / 'test/Walking_stick')
        text = message(both(data, **more))
        assert 'missing: walking_stick; unknown: Walking_stick' in text

    def test_other_unicode_form(self, data: Path) -> None:
        (data / 'train/bucket').rename(data / 'train/Bärlauch')
        (data / 'test/bucket').rename(data / 'test/Ba\u0308rlauch')
        assert 'the same letters in another Unicode form' in message(both(data))

    @pytest.mark.parametrize('classes', [None, ['bucket', 'goldfish']])
    def test_other_names(self, data: Path, classes: list | None) -> None:
        for split in ('train', 'test'):
            shutil.rmtree(data / split / 'walking_stick')
        (data / 'test/goldfish').rename(data / 'test/fish')
        (data / 'test/bucket').rename(data / 'test/bucket_x')
        text = message(both(data, classes=classes))
        for words in ('val_dataloader.dataset', 'bucket', 'goldfish', 'bucket_x', 'fish'):
            assert words in text

    @pytest.mark.parametrize(
        'wrap',
        [
            lambda one: dict(type='RepeatDataset', times=2, dataset=one),
            lambda one: dict(type='ConcatDataset', datasets=[one, one]),
            lambda one: dict(type='KFoldDataset', dataset=one, fold=0, num_splits=2),
            lambda one: dict(
                type='ClassBalancedDataset',
                oversample_thr=0.1,
                dataset=dict(type='ConcatDataset', datasets=[one]),
            ),
        ],
    )
    def test_wrappers(self, data: Path, wrap) -> None:
        train, val = wrap(folder(data, 'train')), wrap(folder(data, 'test'))
        cli.check_data(loaders(train, val), LOADERS)
        (data / 'test/walking_stick').rename(data / 'test/Walking_stick')
        assert 'Walking_stick' in message(loaders(train, val))

    def test_two_data_sets_of_one_loader(self, data: Path) -> None:
        (data / 'test/walking_stick').rename(data / 'test/another')
        pair = [folder(data, 'train'), folder(data, 'test')]
        train = dict(type='ConcatDataset', datasets=pair)
        text = message(loaders(train, folder(data, 'train')))
        assert 'train_dataloader.dataset.datasets.1' in text

    def test_classes_in_another_order_than_the_folders(self, data: Path) -> None:
        text = message(both(data, classes=CLASSES[::-1]))
        assert 'train_dataloader.dataset.classes' in text
        assert 'class 0 is bucket, but walking_stick there' in text

    def test_list_of_files_with_classes_in_another_order(self, data: Path) -> None:
        (data / 'list.txt').write_text('bucket/0.png 1\n')
        val = folder(data, 'test', ann_file='list.txt')
        cli.check_data(loaders(folder(data, 'train'), dict(val, classes=CLASSES)), LOADERS)
        text = message(loaders(folder(data, 'train'), dict(val, classes=CLASSES[::-1])))
        assert 'class 0 is walking_stick, but bucket there' in text

    def test_class_folder_that_is_missing(self, data: Path) -> None:
        shutil.rmtree(data / 'test/bucket')
        text = message(both(data))
        assert 'missing: bucket' in text and 'an empty folder' in text
        (data / 'test/bucket').mkdir()
        cli.check_data(both(data), LOADERS)

    def test_classes_of_a_checkpoint(self, data: Path) -> None:
        cfg = both(data)

        def check(classes: object) -> None:
            meta = dict(dataset_meta=dict(classes=classes))
            cli.check_data(cfg, ('val_dataloader',), 'a.pth', meta)

        check(tuple(CLASSES))
        check(None)
        with pytest.raises(DataError, match='the checkpoint a.pth.*class 0 is bucket'):
            check(CLASSES[::-1])
        with pytest.raises(DataError, match='found 3 .missing: fish; unknown: goldfish'):
            check(['bucket', 'fish', 'walking_stick'])
        cli.check_data(cfg, ('val_dataloader',), 'a.pth', dict(dataset_meta='text'))
        cli.check_data(cfg, ('val_dataloader',), 'a.pth', {})

    @pytest.mark.parametrize('names', [CLASSES[::-1], ['bucket', 'fish', 'walking_stick']])
    def test_classes_of_a_teacher_and_of_a_continued_training(
        self, data: Path, tmp_path: Path, names: list, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write(classes: list) -> None:
            meta = dict(dataset_meta=dict(classes=tuple(classes)))
            torch.save(dict(state_dict={}, meta=meta), tmp_path / 'a.pth')

        monkeypatch.setenv('HOME', str(tmp_path))
        cfg = both(data)
        data_sets = cli.check_data(cfg, LOADERS)
        cfg.model = dict(teacher_ckpt='~/a.pth')  # which the host finds too
        start = Config(dict(load_from=str(tmp_path / 'a.pth')))
        resumed = Config(dict(start, resume=True))
        write(CLASSES)
        cli.check_checkpoints(cfg, data_sets)
        cli.check_checkpoints(resumed, data_sets)
        write(names)
        with pytest.raises(DataError, match='the checkpoint ~/a.pth, in the same order'):
            cli.check_checkpoints(cfg, data_sets)
        with pytest.raises(DataError, match='the checkpoint .*a.pth, in the same order'):
            cli.check_checkpoints(resumed, data_sets)
        cli.check_checkpoints(start, data_sets)  # a start may have other classes
        write(['pail', 'carp', 'cane'])
        cli.check_checkpoints(cfg, data_sets)  # names for people


class TestFolders:
    def test_hidden_folder(self, data: Path) -> None:
        (data / 'train/.ipynb_checkpoints').mkdir()
        text = message(both(data))
        assert f'hidden folder {data}/train/.ipynb_checkpoints' in text and 'Remove' in text
        assert '.ipynb_checkpoints' in message(read_config(CONFIG, data_root=str(data)))

    def test_name_that_is_not_utf8(self, data: Path) -> None:
        os.mkdir(os.fsencode(data / 'train') + b'/caf\xe9')
        text = message(both(data))
        assert r"b'caf\xe9'" in text and 'not UTF-8' in text

    def test_validation_in_the_place_of_testing(self, data: Path) -> None:
        (data / 'test').rename(data / 'val')
        text = message(read_config(CONFIG, data_root=str(data)))
        assert f'there is no folder {data}/test' in text
        option = 'val_dataloader.dataset.data_prefix'
        assert f'There is {data}/val: to use it, add --cfg-options {option}=val' in text
        cli.check_data(read_config(CONFIG, {option: 'val'}, data_root=str(data)), LOADERS)

    def test_images_without_class_folders(self, data: Path) -> None:
        for split in ('train', 'test'):
            shutil.rmtree(data / split)
            (data / split).mkdir()
        assert 'a folder for each of the classes' in message(both(data))


class TestAsTheHostResolvesPaths:
    def test_absolute_prefix(self, data: Path) -> None:
        one = dict(type='CustomDataset', data_root='', data_prefix=str(data / 'train'), pipeline=[])
        cli.check_data(loaders(one, one), LOADERS)
        gone = dict(one, data_prefix=str(data / 'gone'))
        assert str(data / 'gone') in message(loaders(one, gone))

    def test_prefix_as_a_dict(self, data: Path) -> None:
        one = dict(folder(data, 'x', classes=CLASSES), data_prefix=dict(img_path='train'))
        cli.check_data(loaders(one, one), LOADERS)
        (data / 'train/goldfish').rename(data / 'train/fish')
        assert 'unknown: fish' in message(loaders(one, one))

    def test_home(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv('HOME', str(data))
        one = dict(type='CustomDataset', data_prefix='~/train', pipeline=[])
        cli.check_data(loaders(one, one), LOADERS)

    def test_list_of_absolute_paths(self, data: Path) -> None:
        (data / 'list.txt').write_text(f'{data}/train/bucket/0.png 0\n')
        one = dict(type='CustomDataset', ann_file=str(data / 'list.txt'), pipeline=[])
        cli.check_data(loaders(one, one), LOADERS)
        gone = dict(one, ann_file=str(data / 'gone.txt'))
        assert f'there is no file {data}/gone.txt' in message(loaders(one, gone))


class NamesInFiles(CustomDataset):
    """Finds its images by itself."""

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=str(file), gt_label=[0]) for file in Path(self.img_prefix).iterdir()]


class FewArguments(CustomDataset):
    """Takes other arguments than the host's."""

    def __init__(self, data_root: str, pipeline: list) -> None:
        super().__init__(data_root=data_root, pipeline=pipeline)


@pytest.mark.parametrize('kind', [NamesInFiles, FewArguments])
def test_own_subclasses_are_left_alone(tmp_path: Path, kind: type) -> None:
    (tmp_path / '0.png').write_bytes(b'')
    one = dict(type=kind, data_root=str(tmp_path), pipeline=[dict(type='LoadImageFromFile')])
    args = Namespace(check_images='full', skip_bad_images=False)
    cli.check_data(loaders(one, one), LOADERS, args=args)
    text = message(loaders(one, dict(one, data_root=str(tmp_path / 'gone'))))
    assert f'there is no folder {tmp_path}/gone' in text


def test_labels_of_all_pairs_are_compared(data: Path) -> None:
    """A first data set without names hides nothing."""
    (data / 'list.txt').write_text('bucket/0.png 0\n')
    listed = folder(data, 'train', ann_file='list.txt')
    train = dict(type='ConcatDataset', datasets=[listed, folder(data, 'train')])
    (data / 'test/walking_stick').rename(data / 'test/Walking_stick')
    assert 'Walking_stick' in message(loaders(train, folder(data, 'test')))
