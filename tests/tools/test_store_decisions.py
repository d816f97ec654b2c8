"""The command that stores decisions: what it says, and what it refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from command_line import CONFIG, Main, arguments, refused

from mmkdlayer.stored.files import MANIFEST, Store


def line_of(folder: Path, data: Path, *more: object, views: object = 2) -> list[str]:
    given = ('--views', views, '--out', folder / 'store', '--work-dir', folder / 'work', *more)
    return arguments(CONFIG, *given, data=data)


def test_it_fits_says_size_and_time_stores_and_goes_on(
    images: Path, tmp_path: Path, main: Main
) -> None:
    code, errors = main('store_decisions.py', line_of(tmp_path, images, '--logits', 2))
    assert code == 0, errors
    assert 'storing, images: 100%' in errors
    log = next((tmp_path / 'work').glob('20*/*.log')).read_text()
    assert 'fitted and stored' in log
    said = re.search(r'Stores 2 views of 30 images: (\S+) KiB in 2 files in .* are free', log)
    assert said and re.search(r'It takes about \d+ s, at \S+ images a second and process', log)
    store = Store.open(tmp_path / 'store')
    store.check()
    size = sum(file['bytes'] for file in store.manifest['shards'])
    assert 0 < size - float(said[1]) * 1024 < 2 * 1024  # headers
    assert store.manifest['logits'] == dict(classes=3, top_k=2, sources=['head.fc', 'head'])
    before = (tmp_path / 'store' / MANIFEST).stat().st_mtime_ns
    code, errors = main('store_decisions.py', line_of(tmp_path, images, '--logits', 2))
    assert code == 0, errors
    assert (tmp_path / 'store' / MANIFEST).stat().st_mtime_ns == before
    # Two students of other widths train on it, without the teacher.
    for channels in (4, 8):
        line = arguments(CONFIG, '--work-dir', tmp_path / f's{channels}', data=images)
        line += [
            f'model.architecture.backbone.base_channels={channels}',
            f'model.architecture.head.in_channels={4 * channels}',
            f'model.distiller.kd_layers.inter.in_channels={4 * channels}',
            f'model.distiller.kd_layers.penult.in_channels={4 * channels}',
        ]
        stored = ['--stored', str(tmp_path / 'store')]
        code, errors = main('train.py', [line[0], *stored, *line[1:]])
        assert code == 0, errors
        log = next((tmp_path / f's{channels}').glob('20*/*.log')).read_text()
        assert 'distill.loss_inter' in log and 'no teacher is built, loaded or run' in log
    # The store has its own copy of the decisions: with another fit it is not continued.
    shutil.rmtree(tmp_path / 'work')
    line = line_of(tmp_path, images, '--logits', 2)
    line.append('model.distiller.kd_layers.inter.decision.num_subclasses=1')
    refused(
        main,
        tmp_path / 'work',
        line,
        'of kd_layers.inter, ',
        'Choose another --out',
        tool='store_decisions.py',
    )


def test_an_image_that_can_not_be_read_is_named(images: Path, tmp_path: Path, main: Main) -> None:
    data = shutil.copytree(images, tmp_path / 'data')
    (data / 'train' / 'class_1' / '3.png').write_bytes(b'no image')
    line = line_of(tmp_path, data)
    refused(main, tmp_path / 'work', line, 'class_1/3.png', tool='store_decisions.py')
    assert not (tmp_path / 'store' / MANIFEST).exists()


@pytest.mark.parametrize(
    'more, views, words',
    [
        ((), 0, '--views: expected a whole number of at least 1'),
        ((), 'all', '--views: expected a whole number'),
        (('--logits', 0), 1, '--logits: expected a whole number of at least 1'),
    ],
)
def test_numbers_that_are_none_are_refused(
    images: Path, tmp_path: Path, main: Main, more: tuple, views: object, words: str
) -> None:
    code, errors = main('store_decisions.py', line_of(tmp_path, images, *more, views=views))
    assert code == 2 and words in errors


def test_a_file_in_the_place_of_the_store_is_refused(
    images: Path, tmp_path: Path, main: Main
) -> None:
    (tmp_path / 'store').write_text('')
    line = line_of(tmp_path, images)
    refused(
        main,
        tmp_path / 'work',
        line,
        f'{tmp_path / "store"} must be writable',
        tool='store_decisions.py',
    )
