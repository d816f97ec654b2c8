from __future__ import annotations

from pathlib import Path

import pytest
from command_line import load_tool

from mmkdlayer.errors import DataError

arrange_validation = load_tool('prepare_tinyimagenet').arrange_validation

LABELS = {f'val_{index}.JPEG': f'n0{index % 3}' for index in range(10)}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / 'tiny-imagenet-200'
    for label in sorted(set(LABELS.values())):
        (root / 'train' / label / 'images').mkdir(parents=True)
        (root / 'train' / label / f'{label}_boxes.txt').write_text('')
    (root / 'val' / 'images').mkdir(parents=True)
    for name in LABELS:
        (root / 'val' / 'images' / name).write_text(f'image {name}')
    lines = [f'{name}\t{label}\t0\t32\t44\t62' for name, label in LABELS.items()]
    (root / 'val' / 'val_annotations.txt').write_text('\n'.join(lines) + '\n')
    return root


def files(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob('*') if p.is_file()}


def assert_arranged(root):
    images = {f'{label}/{name}': f'image {name}' for name, label in LABELS.items()}
    found = files(root / 'val')
    assert found.pop('val_annotations.txt')
    assert found == images
    assert sorted(entry.name for entry in root.iterdir()) == ['train', 'val']
    assert not (root / 'val' / 'images').exists()


def test_folders_of_classes(root):
    assert arrange_validation(root) == 10
    assert_arranged(root)
    assert arrange_validation(root) == 0
    assert_arranged(root)


def test_mmpretrain_reads_it(root):
    from mmpretrain.datasets import CustomDataset

    arrange_validation(root)
    dataset = CustomDataset(data_root=str(root), data_prefix='val', with_label=True)
    dataset.full_init()
    assert list(dataset.CLASSES) == ['n00', 'n01', 'n02']
    found = {Path(item['img_path']).name: item['gt_label'] for item in dataset}
    assert found == {name: int(label[-1]) for name, label in LABELS.items()}


class StoppedError(Exception):
    pass


@pytest.mark.parametrize('steps', range(15))
def test_goes_on_after_a_stop_at_any_step(steps, root, monkeypatch):
    done = []

    def counted(function):
        def run(*args):
            if len(done) == steps:
                raise StoppedError
            done.append(function.__name__)
            return function(*args)

        return run

    with monkeypatch.context() as patch:
        # Ten moves of images, one of the annotations, two emptied folders, one final rename.
        patch.setattr(Path, 'replace', counted(Path.replace))
        patch.setattr(Path, 'rmdir', counted(Path.rmdir))
        if steps < 14:
            with pytest.raises(StoppedError):
                arrange_validation(root)
            val = root / 'val'
            assert not any(val.glob('n0*'))
        else:
            arrange_validation(root)
            assert len(done) == 14
    arrange_validation(root)
    assert_arranged(root)


def untouched(root, message):
    before = files(root)
    with pytest.raises(DataError, match=message) as raised:
        arrange_validation(root)
    assert '\n' not in str(raised.value)
    assert files(root) == before


def test_lost_image(root):
    (root / 'val' / 'images' / 'val_3.JPEG').unlink()
    untouched(root, r'1 are not there \(such as val_3.JPEG\)')


def test_strange_files(root):
    (root / 'val' / 'images' / 'mine.png').write_text('')
    untouched(root, 'such as mine.png')
    (root / 'val' / 'images' / 'mine.png').unlink()
    (root / 'val' / 'notes').mkdir()
    untouched(root, 'such as notes')


def test_class_without_training_folder(root):
    with (root / 'val' / 'val_annotations.txt').open('a') as stream:
        stream.write('val_10.JPEG\tn99\n')
    (root / 'val' / 'images' / 'val_10.JPEG').write_text('')
    untouched(root, 'such as n99')


@pytest.mark.parametrize(
    'line', ['val_0.JPEG n00', '../val_0.JPEG\tn00', 'val_0.JPEG\t../../n00', 'a.JPEG\t', '\tn00']
)
def test_damaged_annotations(line, root):
    with (root / 'val' / 'val_annotations.txt').open('a') as stream:
        stream.write(line + '\n')
    untouched(root, 'line 11: expected an image name and a class')


def test_doubled_and_empty_annotations(root):
    path = root / 'val' / 'val_annotations.txt'
    path.write_text(path.read_text() + 'val_0.JPEG\tn01\n')
    untouched(root, 'val_0.JPEG has two lines')
    path.write_text('\n')
    untouched(root, 'it is empty')


def test_wrong_folder(root):
    untouched(root / 'train', 'no val/val_annotations.txt')
    untouched(root.parent, 'no val/val_annotations.txt')
    with pytest.raises(DataError, match='no val/val_annotations.txt'):
        arrange_validation(root / 'nowhere')


def test_done_by_other_means(root):
    arrange_validation(root)
    for label in sorted(set(LABELS.values())):
        folder = root / 'val' / label
        folder.rename(root / 'val' / 'moving')
        folder.mkdir()
        (root / 'val' / 'moving').rename(folder / 'images')
    assert arrange_validation(root) == 0
    (root / 'val' / 'val_annotations.txt').unlink()
    assert arrange_validation(root) == 0


def test_done_but_an_image_is_lost(root):
    arrange_validation(root)
    (root / 'val' / 'n01' / 'val_1.JPEG').unlink()
    untouched(root, r'1 are not there \(such as val_1.JPEG\)')


def test_the_command(tmp_path, capsys):
    main = load_tool('prepare_tinyimagenet').main
    with pytest.raises(SystemExit, match='2'):
        main([str(tmp_path)])
    assert capsys.readouterr().err.strip().startswith(f'error: {tmp_path}: expected Tiny-ImageNet')
    (tmp_path / 'train' / 'n01').mkdir(parents=True)
    (tmp_path / 'val' / 'images').mkdir(parents=True)
    (tmp_path / 'val' / 'images' / 'a.JPEG').write_text('')
    (tmp_path / 'val' / 'val_annotations.txt').write_text('a.JPEG\tn01\t0\t0\t1\t1\n')
    main([str(tmp_path)])
    assert '1 images sorted' in capsys.readouterr().out
    main([str(tmp_path)])
    assert 'already sorted' in capsys.readouterr().out
