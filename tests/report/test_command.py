"""tools/report.py on a small training."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import torch
from command_line import CONFIG, refused

from .conftest import EVIL, command_line  # type: ignore[import-not-found]

Main = Callable[[str, list[str]], tuple[int, str]]


def text_of(page: Path) -> str:
    """What a page says, without tags."""
    content = re.sub(r'<(style|script).*?</\1>', ' ', page.read_text(), flags=re.S)
    return ' '.join(html.unescape(re.sub('<[^>]+>', ' ', content)).split())


def test_the_page_has_both_sections_of_both_layers(report: Path) -> None:
    text = text_of(report)
    for words in (
        *('Layer inter: 6 sub-classes', 'Layer penult: 8 centroids', 'Layer inter: 6 templates'),
        *('before the training', 'accuracy of the teacher', '12', 'dead templates'),
    ):
        assert words in text
    assert report.stat().st_size < 1e6


def test_the_page_has_the_probe_the_curves_and_the_costs(report: Path) -> None:
    text = text_of(report)
    for words in (
        '3. How well classes are separated',
        'folder_example penult 1',
        '4. Curves and cost',
    ):
        assert words in text
    for words in (
        'distill.loss_inter',
        'accuracy/top1',
        'student without KD layers',
        'backward pass',
    ):
        assert words in text
    assert 'fitted on 30 images for 3 classes' in text  # a note that these are few


def test_a_class_with_a_nasty_name_is_text(report: Path) -> None:
    page = report.read_text()
    assert html.escape(EVIL) in page
    tags = re.findall(r'<script[^>]*>', page)
    assert set(tags) == {'<script>', '<script type="application/json">'}
    assert tags.count('<script>') == 1
    assert '\\u003cscript\\u003e' in page  # in the data of the viewer


def test_the_predictions_are_stored_for_comparisons(report: Path) -> None:
    with np.load(report.parent / 'predictions.npz') as stored:
        assert stored['labels'].tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert stored['indices'].tolist() == list(range(12))
        assert set(stored['predicted'].tolist()) <= {0, 1, 2}


def test_without_a_teacher_the_page_says_so(
    work: Path, evil_images: Path, tmp_path: Path, main: Main
) -> None:
    also = ('--also', CONFIG, work / 'epoch_1.pth')
    more = ('--out', tmp_path, *also, '--no-teacher', '--classes', EVIL, '--images', 6)
    code, errors = main('report.py', command_line(work, evil_images, *more))
    assert code == 0, errors
    text = text_of(tmp_path / 'index.html')
    assert 'Layer inter: 6 sub-classes' in text  # the table is in a file
    assert 'The teacher was not run' in text and 'agreement with the teacher' not in text
    assert 'Shown are 1 of 3 classes' in text
    assert text.count('folder_example inter 1') == 2  # the other student of the probe


def test_a_student_alone(work: Path, evil_images: Path, tmp_path: Path, main: Main) -> None:
    line = command_line(work, evil_images, '--out', tmp_path / 'student', '--fold')
    code, errors = main('export_student.py', line)
    assert code == 0, errors
    exported = tmp_path / 'student'
    line = [str(exported / 'student.py'), str(exported / 'student.pth')]
    line += ['--data-root', str(evil_images), '--out', str(tmp_path / 'report')]
    code, errors = main('report.py', line)
    assert code == 0, errors
    text = text_of(tmp_path / 'report' / 'index.html')
    assert 'the config is that of a student alone' in text
    assert 'folded into the weights' in text


def test_a_wrong_class_and_another_teacher_are_refused(
    work: Path, evil_images: Path, tmp_path: Path, main: Main
) -> None:
    line = command_line(work, evil_images, '--out', tmp_path / 'a', '--classes', 'dog')
    refused(main, tmp_path / 'a', line, "there is no 'dog' among the 3", tool='report.py')
    other = tmp_path / 'work'
    shutil.copytree(work, other)
    state = torch.load(other / 'teacher.pth')
    state['backbone.conv1.weight'] += 1
    torch.save(state, other / 'teacher.pth')
    line = command_line(other, evil_images, '--out', tmp_path / 'b')
    words = ('was fitted on a teacher with the fingerprint', '--no-teacher')
    refused(main, tmp_path / 'b', line, *words, tool='report.py')


@pytest.mark.parametrize(
    ('stated', 'words'),
    [
        ('--compare a b --images 5', 'leave out --images'),
        ('--compare a b --patches 5 --no-teacher --cfg-options x=1', '--no-teacher, --cfg-options'),
        ('student.py student.pth --compare a b', 'leave out CONFIG, CHECKPOINT'),
        ('student.py', 'expected CONFIG and CHECKPOINT'),
        ('a.py a.pth --probe-images 0 --also b.py b.pth', '--probe-images 0 leaves out'),
    ],
)
def test_what_would_not_be_read_is_refused(
    stated: str, words: str, tmp_path: Path, main: Main
) -> None:
    code, errors = main('report.py', [*stated.split(), '--out', str(tmp_path / 'out')])
    assert code == 2 and words in errors
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['index.html', 'predictions.npz'])
def test_the_files_are_whole(report: Path, name: str) -> None:
    assert not list(report.parent.glob('.*'))
    assert (report.parent / name).stat().st_size > 100
