"""tools/predict.py: images to a CSV file, by an exported student or a training checkpoint."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import torch
from command_line import write_images
from made_up_data import MadeUpCIFAR100
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmpretrain import ImageClassificationInferencer
from PIL import Image

from mmkdlayer import load_student
from mmkdlayer.deploy import export_student, find_images, predict_files
from mmkdlayer.errors import ConfigError, DataError

Main = Callable[[str, list[str]], tuple[int, str]]
CLASSES = ('cat', 'dog, "big"', 'owl\nnight')
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16),
    dict(type='PackInputs'),
]


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """Config and checkpoint of a classifier."""
    return make_training(tmp_path, dict(type='CustomDataset', data_root='x', pipeline=PIPELINE))


def make_training(
    folder: Path, dataset: dict, head: dict | None = None, **model: object
) -> tuple[Path, Path]:
    from conftest import tiny_classifier  # type: ignore[import-not-found]

    init_default_scope('mmpretrain')
    model_cfg = tiny_classifier(**model)
    model_cfg['head'].update(head or {})
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=model_cfg,
            test_dataloader=dict(batch_size=2, num_workers=0, dataset=dataset),
            test_evaluator=dict(type='Accuracy'),
            test_cfg=dict(),
        )
    )
    (folder / 'config.py').write_text(cfg.pretty_text)
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter)
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / 'epoch_1.pth')
    return folder / 'config.py', folder / 'epoch_1.pth'


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_images(tmp_path / 'photos')
    (folder / 'test' / '.DS_Store').write_text('x')
    (folder / 'test' / 'notes.txt').write_text('x')
    return folder / 'test'


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_an_exported_student_on_a_folder(
    trained: tuple[Path, Path], photos: Path, tmp_path: Path, main: Main
) -> None:
    export_student(Config.fromfile(trained[0]), trained[1], tmp_path / 'student')
    DefaultScope._instance_dict.clear()  # as in a process that has not exported
    out = tmp_path / 'new' / 'found.csv'
    code, errors = main('predict.py', [str(tmp_path / 'student'), str(photos), '--out', str(out)])
    assert code == 0, errors
    assert 'left out, since they are no images: 1 of .txt' in errors
    rows = read(out)
    files = sorted(photos.rglob('*.png'))
    assert [row['file'] for row in rows] == [str(file) for file in files] and len(files) == 12
    inferencer = ImageClassificationInferencer(load_student(tmp_path / 'student'))
    for row, result in zip(rows, inferencer([str(file) for file in files])):
        assert row['class'] == result['pred_class']
        assert float(row['score']) == pytest.approx(result['pred_score'], abs=1e-5)
    # with an option of the config
    line = [str(tmp_path / 'student'), str(files[0]), '--out', str(out)]
    line += ['--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=8']
    code, errors = main('predict.py', line)
    assert code == 0, errors
    assert float(read(out)[0]['score']) != float(rows[0]['score'])
    # a config with its checkpoint, single files, several classes each
    line = [*map(str, trained), *map(str, files[:3]), '--out', str(out), '--top', '9']
    code, errors = main('predict.py', line)
    assert code == 0, errors
    every = read(out)
    assert [row['file'] for row in every[::3]] == [str(file) for file in files[:3]]
    assert [row['class'] for row in every[::3]] == [row['class'] for row in rows[:3]]
    assert sum(float(row['score']) for row in every[:3]) == pytest.approx(1, abs=1e-5)


def test_bad_images_are_named_and_skipped(
    trained: tuple[Path, Path], photos: Path, tmp_path: Path, main: Main
) -> None:
    whole = next(photos.rglob('*.png'))
    (photos / 'empty.jpg').write_bytes(b'')
    (photos / 'cut.png').write_bytes(whole.read_bytes()[:60])
    (photos / 'page.jpg').write_text('<html>')
    out = tmp_path / 'found.csv'
    code, errors = main('predict.py', [*map(str, trained), str(photos), '--out', str(out)])
    assert code == 3
    assert f'skipped {photos}/empty.jpg: empty file' in errors
    assert f'skipped {photos}/page.jpg: no known image format' in errors
    assert f'skipped {photos}/cut.png: ' in errors
    assert len(read(out)) == 12


@pytest.mark.parametrize(
    ('images', 'options', 'words'),
    [
        (['nowhere.jpg'], [], 'nowhere.jpg: there is no such file'),
        (['empty'], [], 'ending in .bmp, .gif, .jfif, .jp2, .jpeg, .jpg, .pgm'),
        ([], [], 'Expected images after CONFIG and CHECKPOINT'),
        (['photos'], ['--top', '0'], "--top: expected a whole number of at least 1, but got '0'"),
        (['photos'], ['--out', 'empty'], '--out empty is a folder, but must be a file'),
        (['photos'], ['--device', 'nothing'], '--device nothing: there is no such device'),
        (['photos'], ['--device', 'cuda:99'], '--device cuda:99: there is no such device'),
        (
            ['photos'],
            ['--batch-size', '0'],
            "--batch-size: expected a whole number of at least 1, but got '0'",
        ),
        (
            ['photos'],
            ['--cfg-options', 'model.backbone.depth=34'],
            'model.backbone.depth is 34 here',
        ),
    ],
)
def test_a_wrong_line(
    images: list[str],
    options: list[str],
    words: str,
    trained: tuple[Path, Path],
    photos: Path,
    tmp_path: Path,
    main: Main,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'predictions.csv').write_text('earlier')
    code, errors = main('predict.py', [*map(str, trained), *images, *options])
    assert code == 2 and words in errors
    assert (tmp_path / 'predictions.csv').read_text() == 'earlier'


def test_cifar_students_get_files_as_their_data_set_gives_arrays(tmp_path: Path) -> None:
    """RGB, of 32x32; others are refused, since nothing resizes them."""
    dataset = dict(
        type=f'made_up_data.{MadeUpCIFAR100.__name__}',
        data_root='nowhere',
        split='test',
        pipeline=[dict(type='PackInputs')],
    )
    config, checkpoint = make_training(tmp_path, dataset)
    export_student(Config.fromfile(config), checkpoint, tmp_path / 'student')
    student = load_student(tmp_path / 'student')
    data = MadeUpCIFAR100(data_root='nowhere', split='test', pipeline=[])
    pixels = [data[index]['img'] for index in range(4)]
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f'{index}.png')
    Image.new('RGB', (50, 30)).save(tmp_path / 'photo.png')
    files = [str(tmp_path / f'{name}.png') for name in (*range(4), 'photo')]
    *found, photo = predict_files(student, files, top=3)
    inputs = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    expected = student(inputs).softmax(1)
    for prediction, scores in zip(found, expected):
        named = dict(prediction.classes)
        assert [named[name] for name in CLASSES] == pytest.approx(scores.tolist(), abs=1e-5)
    assert not torch.allclose(student(inputs.flip(1)).softmax(1), expected, atol=1e-3)
    assert photo.problem.startswith('it is 50x30, but the student takes images of 32x32')


def test_images_of_several_sizes_do_not_change_each_other(tmp_path: Path, photos: Path) -> None:
    dataset = dict(type='CustomDataset', data_root='x', pipeline=[PIPELINE[0], PIPELINE[2]])
    config, checkpoint = make_training(tmp_path, dataset)
    cfg = Config.fromfile(config)
    cfg.image_shape = [3, 16, 16]
    export_student(cfg, checkpoint, tmp_path / 'student')
    student = load_student(tmp_path / 'student')
    Image.new('RGB', (40, 24), 'green').save(photos / 'large.png')
    files, _ = find_images([photos])
    together = list(predict_files(student, files, top=3))
    alone = [next(predict_files(student, [file], top=3)) for file in files]
    for one, other in zip(together, alone):
        assert one.file == other.file
        assert dict(one.classes) == pytest.approx(dict(other.classes), abs=1e-5)


def test_links_and_folders_that_cannot_be_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / 'again').symlink_to(photos)
    (tmp_path / 'linked').symlink_to(photos)
    files, others = find_images(iter([tmp_path / 'linked']))
    assert len(files) == len(set(files)) == 12 and others == {'.txt': 1}
    with pytest.raises(DataError, match='no images in .*empty'):
        (tmp_path / 'empty').mkdir()
        find_images(iter([tmp_path / 'empty']))

    def refuse(path: str) -> None:
        raise PermissionError(13, 'Permission denied', path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(DataError, match='linked cannot be read: Permission denied'):
        find_images([tmp_path / 'linked'])


def test_a_multi_label_student_names_all_that_it_finds(tmp_path: Path, photos: Path) -> None:
    dataset = dict(type='CustomDataset', data_root='x', pipeline=PIPELINE)
    loss = dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True)
    head = dict(type='mmpretrain.MultiLabelLinearClsHead', thr=0.5, loss=loss)
    config, checkpoint = make_training(tmp_path, dataset, head=head)
    cfg = Config.fromfile(config)
    export_student(cfg, checkpoint, tmp_path / 'student')
    student = load_student(tmp_path / 'student')
    files, _ = find_images([photos])
    for prediction, every in zip(predict_files(student, files), predict_files(student, files, 3)):
        assert list(prediction.classes) == [pair for pair in every.classes if pair[1] >= 0.5]


def test_scores_that_are_no_numbers_are_a_problem(trained: tuple[Path, Path], photos: Path) -> None:
    from mmkdlayer.deploy.predicting import _prediction

    class Result:
        pred_score = torch.tensor([0.5, float('nan')])
        pred_label = torch.tensor([0])

    assert 'no numbers' in _prediction('a.png', Result, None, None).problem


def test_a_pipeline_that_reads_no_files() -> None:
    from mmkdlayer.deploy.file_pipeline import file_pipeline

    dataset = dict(type='mmpretrain.CustomDataset', pipeline=[dict(type='PackInputs')])
    with pytest.raises(ConfigError, match=r'CustomDataset reads no files.*LoadImageFromFile'):
        file_pipeline(dict(test_dataloader=dict(dataset=dataset)))
    with pytest.raises(ConfigError, match='no test_dataloader'):
        file_pipeline({})


def test_a_name_that_is_not_utf_8(trained: tuple[Path, Path], tmp_path: Path, main: Main) -> None:
    folder = os.fsencode(tmp_path) + b'/odd'
    os.mkdir(folder)
    Image.new('RGB', (16, 16)).save(tmp_path / 'a.png')
    try:
        os.rename(tmp_path / 'a.png', folder + b'/\xff.png')
    except OSError:
        pytest.skip('this file system has no such names')
    out = tmp_path / 'found.csv'
    code, errors = main('predict.py', [*map(str, trained), os.fsdecode(folder), '--out', str(out)])
    assert code == 3 and 'odd/?.png: its name is not UTF-8' in errors
