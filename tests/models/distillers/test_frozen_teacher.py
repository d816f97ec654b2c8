"""A teacher that stays in eval mode and is left out of state dicts."""

from __future__ import annotations

import copy
import pickle
from typing import Callable

import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import nn

from mmkdlayer.models.distillers.frozen_teacher import keep_in_eval, leave_out_of_state_dict


class Pair(nn.Module):
    def __init__(self, frozen: bool = True) -> None:
        super().__init__()
        self.student = nn.Linear(2, 2)
        self.teacher = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
        self.teacher.register_buffer('kept', torch.ones(2))
        self.teacher.register_buffer('passing', torch.ones(2), persistent=False)
        if frozen:
            keep_in_eval(self.teacher)
            leave_out_of_state_dict(self.teacher)


def is_in_eval(module: nn.Module) -> bool:
    return not any(child.training for child in module.modules())


COPIES: list[Callable[[nn.Module], nn.Module]] = [
    lambda model: model,
    copy.deepcopy,
    lambda model: pickle.loads(pickle.dumps(model)),
    lambda model: copy.deepcopy(pickle.loads(pickle.dumps(model))),
]


@pytest.mark.parametrize('twin_of', COPIES)
def test_train_does_not_wake_the_teacher(twin_of):
    pair = twin_of(Pair().train())
    assert is_in_eval(pair.teacher) and pair.student.training
    for wake in (pair.train, pair.teacher.train, lambda: pair.eval().train(True)):
        wake()
        assert is_in_eval(pair.teacher)
    assert pair.student.training
    assert pair.teacher.train() is pair.teacher


@pytest.mark.parametrize('twin_of', COPIES[1:])
def test_a_copy_does_not_touch_the_original(twin_of):
    pair = Pair()
    twin = twin_of(pair)
    pair.teacher[0].train()  # some part on purpose
    twin.train()
    assert pair.teacher[0].training and is_in_eval(twin.teacher)
    twin.teacher[0].train()
    pair.train()
    assert is_in_eval(pair.teacher) and twin.teacher[0].training


@pytest.mark.parametrize('twin_of', COPIES)
@pytest.mark.parametrize('depth', [0, 1])
def test_the_teacher_is_not_in_the_state_dict_of_what_holds_it(twin_of, depth):
    holder = nn.ModuleDict(dict(module=Pair())) if depth else Pair()
    holder = twin_of(holder)
    prefix = 'module.' if depth else ''
    assert list(holder.state_dict()) == [f'{prefix}student.weight', f'{prefix}student.bias']


@pytest.mark.parametrize('twin_of', COPIES)
def test_its_own_state_dict_is_whole(twin_of):
    pair = twin_of(Pair())
    assert set(pair.teacher.state_dict()) == set(Pair(frozen=False).teacher.state_dict())
    assert pair.teacher.load_state_dict(Pair().teacher.state_dict()) is not None


@pytest.mark.parametrize('twin_of', COPIES)
def test_a_state_dict_without_teacher_loads_strictly_and_leaves_it(twin_of):
    pair, other = twin_of(Pair()), Pair()
    before = copy.deepcopy(pair.teacher.state_dict())
    state = other.state_dict()
    keys = list(state)
    result = pair.load_state_dict(state, strict=True)
    assert list(state) == keys
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(pair.student.weight, other.student.weight)
    for name, value in pair.teacher.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize('twin_of', COPIES)
def test_a_state_dict_with_teacher_loads_strictly_and_fills_it(twin_of):
    pair, other = twin_of(Pair()), Pair(frozen=False)
    assert 'teacher.kept' in other.state_dict()
    pair.load_state_dict(other.state_dict(), strict=True)
    for name, value in other.teacher.state_dict().items():
        assert torch.equal(pair.teacher.state_dict()[name], value)


def test_a_state_dict_with_half_a_teacher_or_no_student_does_not_load():
    state = Pair(frozen=False).state_dict()
    del state['teacher.0.weight']
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"teacher.0.weight"'):
        Pair().load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"student.weight"'):
        Pair().load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\).*"teacher.other"'):
        Pair().load_state_dict({**Pair(frozen=False).state_dict(), 'teacher.other': torch.ones(1)})


@pytest.mark.parametrize('frozen', [True, False])
def test_mmengine_loads_both_strictly(frozen, tmp_path):
    other = Pair(frozen)
    torch.save(dict(state_dict=other.state_dict()), tmp_path / 'pair.pth')
    pair = Pair()
    before = copy.deepcopy(pair.teacher[0].weight)
    load_checkpoint(pair, str(tmp_path / 'pair.pth'), strict=True)
    expected = before if frozen else other.teacher[0].weight
    assert torch.equal(pair.teacher[0].weight, expected)
    assert torch.equal(pair.student.weight, other.student.weight)
