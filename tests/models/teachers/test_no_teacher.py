"""What stands in the place of a teacher."""

from __future__ import annotations

import math

import pytest
import torch
from mmpretrain.structures import DataSample

from mmkdlayer.errors import DataError
from mmkdlayer.models.labels import STORED
from mmkdlayer.models.teachers.no_teacher import NoTeacher, dense_logits


def test_it_is_nothing() -> None:
    teacher = NoTeacher(dict(type='ResNet'), 'teacher.pth')
    assert not teacher.state_dict()
    assert teacher(torch.zeros(1, 3, 2, 2), mode='loss') == {}


def test_logits_keep_their_sum_and_come_from_the_named_modules() -> None:
    logits = torch.randn(2, 5)
    values, rows = logits.topk(2)
    others = [sorted(row)[:3] for row in logits.tolist()]
    rest = torch.tensor([math.log(sum(map(math.exp, row)) / 3) for row in others])
    stored = dict(rows=rows, values=values, rest=rest)
    dense = dense_logits(stored, 5)
    torch.testing.assert_close(dense.logsumexp(1), logits.logsumexp(1))
    torch.testing.assert_close(dense.gather(1, rows), values)

    teacher, seen = NoTeacher(modules=['head.fc', 'head'], classes=5), {}
    for name in ('head', 'head.fc'):
        module = teacher.get_submodule(name)
        module.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out}))
    samples = [DataSample() for _ in range(2)]
    for index, sample in enumerate(samples):
        record = {f'logits.{name}': value[index].numpy() for name, value in stored.items()}
        sample.set_field(record, STORED)
    teacher(torch.zeros(2, 3, 2, 2), samples, mode='loss')
    assert torch.equal(seen['head'], dense) and torch.equal(seen['head.fc'], dense)
    with pytest.raises(DataError, match=r'\("logits"\), but the images came without'):
        teacher(torch.zeros(2, 3, 2, 2), [DataSample(), DataSample()])
