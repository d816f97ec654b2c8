"""The check of image files: what is found, what is left out, what the host would have said."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from command_line import write_images
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from PIL import Image

import cli
from cli import images
from mmkdlayer.errors import ConfigError, DataError

LOADERS = ('train_dataloader', 'val_dataloader')
PIPELINE = [dict(type='LoadImageFromFile')]


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmpretrain')


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'data', train=4, test=4)


def photograph(file: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def spoil(data: Path) -> dict[Path, str]:
    """Bad files of many kinds, and why they are."""
    folder = data / 'train' / 'class_1'
    (folder / '0.png').write_bytes(b'')
    (folder / 'page.jpg').write_text('<html><body>Not found</body></html>' * 9)
    cut = {name: photograph(folder / name) for name in ('a.jpg', 'b.png', 'c.webp')}
    for file in cut.values():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return {
        folder / '0.png': 'empty file',
        folder / 'page.jpg': 'no known image format',
        cut['a.jpg']: 'truncated',
        cut['b.png']: 'truncated',
        cut['c.webp']: '',
    }


def config(data: Path, **more: object) -> Config:
    def loader(split: str) -> dict:
        dataset = dict(
            type='CustomDataset',
            data_root=str(data),
            data_prefix=split,
            pipeline=PIPELINE,
            extensions=('.jpg', '.png', '.webp'),
        )
        return dict(dataset=dict(dataset, **more))

    return Config(
        dict(
            train_dataloader=loader('train'),
            val_dataloader=loader('test'),
            work_dir=str(data.parent / 'work'),
        )
    )


def check(cfg: Config, how: str | None = None, skip: bool = False) -> None:
    cli.check_data(cfg, LOADERS, args=argparse.Namespace(check_images=how, skip_bad_images=skip))


@pytest.mark.parametrize('how', [None, 'full'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_bad_images_are_named(data: Path, how: str | None, backend: str) -> None:
    pipeline = [dict(PIPELINE[0], imdecode_backend=backend)]
    check(config(data, pipeline=pipeline), how)
    bad = spoil(data)
    with pytest.raises(DataError, match='^5 images can not be read.*--skip-bad-images') as error:
        check(config(data, pipeline=pipeline), how)
    for path, reason in bad.items():
        assert f'{path} (' in str(error.value)
        assert reason in str(error.value)


def test_only_a_full_check_decodes(data: Path) -> None:
    file = photograph(data / 'test/class_0/x.png')
    content = bytearray(file.read_bytes())
    content[200:600] = bytes(400)
    file.write_bytes(content)
    check(config(data))
    with pytest.raises(DataError, match='^1 image can not be read.*x.png'):
        check(config(data), 'full')


def test_no_check_where_it_is_not_wanted(data: Path) -> None:
    spoil(data)
    check(config(data), 'none')
    cfg = config(data)
    cfg.resume = True
    check(cfg)


def test_bad_images_are_left_out(data: Path, capsys: pytest.CaptureFixture) -> None:
    bad = spoil(data)
    cfg = config(data)
    check(cfg, skip=True)
    assert '5 images left out' in capsys.readouterr().err
    train, val = (DATASETS.build(cfg[loader].dataset) for loader in LOADERS)
    # 12 images were there, and one of them was spoilt.
    assert (len(train), len(val)) == (11, 12)
    assert not cfg.val_dataloader.dataset.get('ann_file')
    names = [train.get_data_info(index)['img_path'] for index in range(len(train))]
    assert not set(names) & set(map(str, bad))
    labels = train.get_gt_labels().tolist()
    assert [name.split('class_')[1][0] for name in names] == [str(label) for label in labels]
    assert train.metainfo['classes'] == ('class_0', 'class_1', 'class_2')
    assert train[0]['img'].shape == (16, 16, 3)
    check(cfg)  # the list of the others is a good one


def test_a_list_of_absolute_paths_stays_one(data: Path) -> None:
    files = [data / f'train/class_0/{number}.png' for number in range(3)]
    files[1].write_bytes(b'')
    (data / 'list.txt').write_text(''.join(f'{file} 0\n' for file in files))
    more = dict(ann_file=str(data / 'list.txt'), data_root='')
    for prefix in ('', str(data / 'train/class')):
        cfg = config(data, data_prefix=prefix, **more)
        cfg.pop('val_dataloader')
        (data / 'train/class').mkdir(exist_ok=True)
        check(cfg, skip=True)
        found = DATASETS.build(cfg.train_dataloader.dataset)
        paths = [found.get_data_info(index)['img_path'] for index in range(len(found))]
        assert paths == [str(files[0]), str(files[2])]


def test_options_that_contradict_each_other(data: Path) -> None:
    with pytest.raises(ConfigError, match='--check-images is none'):
        check(config(data), 'none', skip=True)


def test_many_bad_images_are_listed_in_a_file(data: Path) -> None:
    files = [*data.glob('*/class_0/*.png'), *data.glob('*/class_1/*.png')]
    for file in files:
        file.write_bytes(b'')
    with pytest.raises(DataError, match='and 6 more, see .*bad_images.txt'):
        check(config(data))
    lines = (data.parent / 'work' / 'bad_images.txt').read_text().splitlines()
    assert sorted(lines) == sorted(f'{file}\tempty file' for file in files)


def test_extensions_that_are_left_out_are_said(data: Path, capsys: pytest.CaptureFixture) -> None:
    photograph(data / 'train/class_0/new.webp')
    (data / 'train/class_0/.DS_Store').write_bytes(b'')
    check(config(data))
    assert capsys.readouterr().err == ''
    check(config(data, extensions=('.png',)))
    said = capsys.readouterr().err
    assert 'train_dataloader.dataset leaves out files: 1 .webp (such as ' in said
    assert 'new.webp' in said and 'DS_Store' not in said and 'val_dataloader' not in said
    assert 'its "extensions" adds others' in said


def test_other_files_that_the_host_leaves_out(data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / 'train/class_0/0.png').rename(data / 'train/0.png')
    (data / 'train/class_1/d.png').symlink_to(data / 'gone.png')
    (data / 'train/class_2').rename(data / 'elsewhere')
    (data / 'train/class_2').symlink_to(data / 'elsewhere')
    (data / 'elsewhere/notes').write_text('')
    cfg = config(data)
    check(cfg)
    said = capsys.readouterr().err
    assert '2 .png (such as ' in said
    assert f'1 without extension (such as {data}/train/class_2/notes)' in said
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 11


def test_all_images_have_another_extension(data: Path) -> None:
    with pytest.raises(DataError, match='found no image.* 12 .png .*its "extensions" adds others'):
        check(config(data, extensions=('.jpg',)))


@pytest.mark.parametrize('line', ['class_0/1.png 2.5', 'class_0/1.png', 'class_0/1.png one'])
def test_label_that_is_no_whole_number(data: Path, line: str) -> None:
    (data / 'list.txt').write_text(f'class_0/0.png 0\n{line}\n')
    with pytest.raises(DataError, match='list.txt, line 2: .* label, a whole number'):
        check(config(data, ann_file='list.txt'))


@pytest.mark.parametrize('label', [3, -1])
def test_label_that_no_class_has(data: Path, label: int) -> None:
    (data / 'list.txt').write_text(f'class_0/0.png 2\nclass_0/1.png {label}\n')
    cfg = config(data, ann_file='list.txt')
    check(cfg)
    cfg.model = dict(head=dict(num_classes=3))
    words = f"1.png is {label}, but the model's head has num_classes=3, so labels must be 0 to 2"
    with pytest.raises(DataError, match=words):
        check(cfg)


def test_more_folders_than_the_model_has_classes(data: Path) -> None:
    cfg = config(data)
    cfg.model = dict(architecture=dict(head=dict(num_classes=2)))
    with pytest.raises(
        DataError, match='class_2/0.png is 2, but the model.s head has num_classes=2'
    ):
        check(cfg)


def test_list_with_images_that_are_not_there(data: Path) -> None:
    (data / 'list.txt').write_text('class_0/0.png 0\nclass_0/gone.png 1\n')
    cfg = config(data, ann_file='list.txt')
    with pytest.raises(DataError, match=r'class_0/gone.png \(No such file'):
        check(cfg)
    check(cfg, skip=True)
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 1


def test_a_check_of_headers_ends(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(images, 'CHUNK', 1)
    opened = cli.data_sets.open_data_sets(config(data), LOADERS)
    assert images.find_bad_images(opened, full=False, limit=0.0) == {}
    assert '1 of 24 images were checked' in capsys.readouterr().err
    assert images.find_bad_images(opened, full=True, limit=None) == {}
    assert capsys.readouterr().err == ''


def test_files_of_other_places_are_passed_over(data: Path) -> None:
    spoil(data)
    check(config(data, pipeline=[dict(PIPELINE[0], backend_args=dict(backend='lmdb'))]))
    check(config(data, pipeline=[]))
