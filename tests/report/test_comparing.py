"""Students side by side: what one gets right and others do not."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkdlayer.errors import ConfigError
from mmkdlayer.report import compare
from mmkdlayer.report.predictions import MistakePictures, Predictions

CLASSES = ['cat', '<script>', 'fox']
LABELS = np.array([0, 0, 1, 1, 2, 2])
ANSWERS = dict(first=[0, 1, 1, 1, 2, 0], second=[0, 0, 1, 2, 0, 0], third=[0, 1, 2, 1, 2, 2])


def write(folder: Path, title: str, answers: list, **changes: object) -> Path:
    keep = MistakePictures(len(CLASSES))
    for index, (label, said) in enumerate(zip(LABELS.tolist(), answers)):
        if keep.wants(label, said):
            keep.add(10 * index, label, Image.new('RGB', (80, 40), (20 * index, 0, 0)))
    found = Predictions(title, CLASSES, 10 * np.arange(6), LABELS, np.array(answers), keep.pictures)
    for name, value in changes.items():
        setattr(found, name, value)
    (folder / title).mkdir()
    found.save(folder / title)
    return folder / title


def test_predictions_come_back(tmp_path: Path) -> None:
    found = Predictions.load(write(tmp_path, 'first', ANSWERS['first']))
    assert (found.title, found.classes) == ('first', CLASSES)
    assert found.predicted.tolist() == ANSWERS['first']
    assert list(found.pictures) == [10, 50]
    assert found.pictures[10].startswith(b'\xff\xd8')


def test_pictures_are_about_as_many_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmkdlayer.report.predictions.MOST_PICTURES', 6)
    keep = MistakePictures(3)
    for index in range(5):
        if keep.wants(0, 1):
            keep.add(index, 0, Image.new('RGB', (4, 4)))
    assert list(keep.pictures) == [0, 1]
    assert keep.wants(2, 0) and not keep.wants(2, 2) and not keep.wants(-1, 0)


def test_the_page_counts_as_loops_do(tmp_path: Path) -> None:
    folders = [write(tmp_path, title, answers) for title, answers in ANSWERS.items()]
    page = compare(folders, tmp_path / 'out').read_text()
    assert '<script>alert' not in page and page.count('<script>') == 1
    text = ' '.join(html.unescape(re.sub('<[^>]+>', ' ', page.partition('<main')[2])).split())
    right = {t: [a == y for a, y in zip(answers, LABELS)] for t, answers in ANSWERS.items()}
    assert '6 images; all students are right on 1, none on 0.' in text
    for title, hits in right.items():
        alone = sum(
            hit and not any(right[other][i] for other in right if other != title)
            for i, hit in enumerate(hits)
        )
        assert f'{title} alone: {alone}' in text
        others = [
            '–' if other == title else str(sum(h and not o for h, o in zip(hits, right[other])))
            for other in right
        ]
        share = f'{100 * sum(hits) / 6:.2f} %'
        assert ' '.join([title, share, str(alone), *others]) in text
    assert text.count('first: cat; second: cat') == 1  # the fox that only the third sees
    rows = re.findall(r'fox 2 ([\d.]+) % ([\d.]+) % ([\d.]+) %', text)
    assert rows == [('50.0', '0.0', '100.0')]


def test_images_without_a_label_are_left_out(tmp_path: Path) -> None:
    labels = np.array([-1, *LABELS[1:]])
    folders = [write(tmp_path, title, ANSWERS[title], labels=labels) for title in ANSWERS]
    assert '5 images; all students are right on 0' in compare(folders, tmp_path / 'out').read_text()


def test_what_can_not_be_compared_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path, 'first', ANSWERS['first'])
    other = write(tmp_path, 'other', ANSWERS['second'], labels=LABELS[::-1])
    with pytest.raises(ConfigError, match='on the same images and classes'):
        compare([first, other], tmp_path / 'out')
    with pytest.raises(ConfigError, match='expected two folders of reports or more, but got 1'):
        compare([first], tmp_path / 'out')
    (tmp_path / 'none').mkdir()
    with pytest.raises(
        ConfigError, match='expected a folder that "python -m mmkdlayer report" has'
    ):
        compare([first, tmp_path / 'none'], tmp_path / 'out')
    (first / 'predictions.npz').write_bytes(b'PK')
    with pytest.raises(ConfigError, match='it can not be read'):
        compare([first, other], tmp_path / 'out')
    assert not (tmp_path / 'out' / 'index.html').exists()
