"""Labels of data samples, hard and soft, and those that can't be used."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from mmkdlayer.errors import DataError
from mmkdlayer.models.labels import (
    STORED,
    DataSampleRecorder,
    move_stored,
    read_labels,
    read_stored,
)


def samples(*labels: int) -> list[DataSample]:
    return [DataSample().set_gt_label(label) for label in labels]


def test_hard_labels():
    labels = read_labels(samples(2, 0, 1))
    assert labels.tolist() == [2, 0, 1] and labels.dtype == torch.int64


def test_scores_win_over_labels():
    mixed = samples(0, 1)
    for sample, score in zip(mixed, ([0.3, 0.7, 0.0], [0.0, 0.3, 0.7])):
        sample.set_gt_score(torch.tensor(score))
    torch.testing.assert_close(read_labels(mixed), torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.3, 0.7]]))


def test_scores_of_integers_are_equal_shares():
    labelled = samples(0, 1)
    labelled[0].set_gt_score(torch.tensor([0, 1, 1]))
    labelled[1].set_gt_score(torch.tensor([0, 0, 1]))
    torch.testing.assert_close(
        read_labels(labelled), torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    )


def test_scores_of_some_images_alone():
    labelled = samples(0, 1)
    labelled[0].set_gt_score(torch.tensor([1.0, 0.0]))
    with pytest.raises(DataError, match='1 of the 2 images of a batch have gt_score'):
        read_labels(labelled)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (None, 'given no data samples'),
        ([], 'given no data samples'),
        ([DataSample().set_gt_label(1), DataSample()], 'image 1 of the batch has neither'),
        (
            [DataSample().set_gt_label([0, 2]), DataSample().set_gt_label(1)],
            '2 images have 3 labels',
        ),
    ],
)
def test_labels_that_are_not_there(given, message):
    with pytest.raises(DataError, match=f'{message}.*CentroidDecision'):
        read_labels(given)


@pytest.mark.parametrize('moved_before', [True, False])
def test_stored_integers_are_unsigned_and_of_their_image(moved_before):
    highest = {'u1': 2**8 - 1, 'u2': 2**16 - 1, 'u4': 2**32 - 1, 'u8': 2**40}
    given = samples(0, 1)
    for index, sample in enumerate(given):
        record = {f'layer.{t}': np.array([v - index, 3], f'<{t}') for t, v in highest.items()}
        record.update({'layer.half': np.array(0.25 * index, '<f2'), 'other.u1': np.array([1])})
        sample.set_field(record, STORED)
    if moved_before:
        move_stored(given, torch.device('cpu'))
        given = given[::-1]
    with torch.autocast('cpu', torch.bfloat16):
        found = read_stored(given, 'layer', torch.zeros(1))
    step = -1 if moved_before else 1
    assert found.pop('half').tolist() == [0, 0.25][::step]
    assert found.keys() == highest.keys()
    for kind, values in found.items():
        assert values.dtype == torch.int64
        assert values.tolist() == [[highest[kind], 3], [highest[kind] - 1, 3]][::step]


class Student(nn.Module):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


@pytest.mark.parametrize('order', [[0, 2], [2, 0], [0, 0]])
def test_stored_records_of_which_some_were_moved(order):
    """A loop of one's own that keeps data samples may put a moved one beside others."""
    given = samples(0, 1, 2)
    for value, sample in zip((200, 201, 202), given):
        sample.set_field({'inter.rows': np.array([value], 'u1')}, STORED)
    like = torch.zeros(1)
    assert read_stored(given[:2], 'inter', like)['rows'].tolist() == [[200], [201]]
    found = read_stored([given[index] for index in order], 'inter', like)['rows']
    assert found.tolist() == [[200 + index] for index in order]


@pytest.mark.parametrize('order', [[0, 1], [1, 0]])
def test_stored_records_that_some_images_lack(order):
    given = samples(0, 1)
    given[0].set_field({'inter.rows': np.array([3], 'u1')}, STORED)
    with pytest.raises(DataError):
        read_stored([given[index] for index in order], 'inter', torch.zeros(1))


def test_the_recorder_keeps_what_a_pass_for_the_loss_is_given():
    student, recorder = Student(), DataSampleRecorder()
    student.register_forward_pre_hook(recorder, with_kwargs=True)
    for call in (
        lambda given: student(torch.zeros(1), given, 'loss'),
        lambda given: student(torch.zeros(1), given, mode='loss'),
        lambda given: student(inputs=torch.zeros(1), data_samples=given, mode='loss'),
    ):
        call(samples(2))
        student(torch.zeros(1), samples(0), mode='predict')
        student(torch.zeros(1), samples(0))
        assert recorder.labels().tolist() == [2]
        recorder.release()
        with pytest.raises(DataError):
            recorder.labels()


@pytest.mark.parametrize('twin_of', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_a_recorder_of_its_own(twin_of):
    student, recorder = Student(), DataSampleRecorder()
    student.recorder = recorder
    student.register_forward_pre_hook(recorder, with_kwargs=True)
    twin = twin_of(student)
    twin(torch.zeros(1), samples(1), mode='loss')
    assert twin.recorder.labels().tolist() == [1] and recorder.data_samples is None
