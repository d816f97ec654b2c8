"""Where weights are found in a checkpoint, and what is no checkpoint."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch.optim.swa_utils import AveragedModel

from mmkdlayer.checkpoints import read_state_dict, read_student_weights
from mmkdlayer.errors import CheckpointError


@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.', 'module._orig_mod.'])
@pytest.mark.parametrize('entry', [None, 'state_dict', 'net'])
def test_where_a_state_dict_is_found(entry, prefix, tmp_path):
    state = {f'{prefix}fc.weight': torch.ones(2), f'{prefix}fc.bias': torch.zeros(1)}
    content = state if entry is None else {entry: state, 'meta': {'epoch': 3}}
    torch.save(content, tmp_path / 'epoch_1.pth')
    found, checkpoint = read_state_dict(tmp_path / 'epoch_1.pth', ('net', 'state_dict'))
    assert list(found) == ['fc.weight', 'fc.bias'] and torch.equal(
        found['fc.weight'], torch.ones(2)
    )
    assert checkpoint.get('meta') == (None if entry is None else {'epoch': 3})


@pytest.mark.parametrize('average', [AveragedModel, ExponentialMovingAverage])
def test_the_state_dict_of_an_average(average, tmp_path):
    network = torch.nn.Linear(2, 1)
    torch.save(average(network).state_dict(), tmp_path / 'average.pth')
    found, _ = read_state_dict(tmp_path / 'average.pth')
    assert found.keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    'content',
    [[1, 2], {}, dict(state_dict={}), dict(epoch=1), dict(a='text'), dict(state_dict={'a': 'b'})],
)
def test_a_checkpoint_without_weights(content, tmp_path):
    torch.save(content, tmp_path / 'other.pth')
    kind = type(content).__name__
    with pytest.raises(
        CheckpointError, match=rf'other\.pth: expected a state dict .* found a {kind}'
    ):
        read_state_dict(tmp_path / 'other.pth')


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({1: torch.ones(1)}, 'names as the keys of the checkpoint, but found a int'),
        (dict(state_dict={1: torch.ones(1)}), 'keys of state_dict, but found a int'),
        (dict(state_dict=3), "a dict as the entry 'state_dict', but found a int"),
        (dict(state_dict={'a': torch.ones(1)}, meta=['a']), "entry 'meta', but found a list"),
        (dict(state_dict={'a': torch.ones(1)}, meta='text'), "entry 'meta', but found a str"),
        (torch.ones(3), 'but found a Tensor'),
    ],
)
@pytest.mark.parametrize('read', [read_state_dict, read_student_weights])
def test_checkpoints_of_other_types(content, words, read, tmp_path):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=rf'other\.pth: expected .*{words}'):
        read(tmp_path / 'other.pth')


def nested(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


def repeated(depth: int, number: int) -> list:
    """Of few lists in memory, number**depth to whoever goes through them."""
    found: list = [1]
    for _ in range(depth):
        found = [found] * number
    return found


@pytest.mark.parametrize(
    'value', [nested(300), repeated(15, 10), repeated(5, 999)], ids=['deep', 'repeated', 'wide']
)
def test_meta_data_that_can_not_be_printed(value, tmp_path):
    torch.save(dict(state_dict={'a': torch.ones(1)}, meta=dict(classes=value)), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match="its 'meta' holds 1000000 values"):
        read_student_weights(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        (torch.tensor([1.0, float('nan')]), 'fc.weight holds NaN'),
        (torch.tensor([1.0, float('nan')]).half(), 'fc.weight holds NaN'),
        (torch.tensor([1.0, float('inf')]), 'fc.weight holds infinity'),
        (torch.ones(2, dtype=torch.complex64), r'fc.weight is complex \(torch.complex64\)'),
        (torch.ones(2, device='meta'), 'fc.weight is a tensor without values'),
        (torch.ones(1).expand(10**12), 'fc.weight is one number repeated 1000000000000 times'),
    ],
    ids=['nan', 'half', 'infinity', 'complex', 'meta', 'repeated'],
)
@pytest.mark.parametrize('entry', ['state_dict', 'ema_state_dict'])
def test_weights_that_are_no_numbers(value, words, entry, tmp_path):
    path, good = tmp_path / 'student.pth', {'fc.weight': torch.ones(2)}
    torch.save({'state_dict': good, 'ema_state_dict': good, entry: {'fc.weight': value}}, path)
    with pytest.raises(
        CheckpointError, match=rf'student\.pth: .* its 1 entries, 1 unusable .{words}'
    ):
        read_student_weights(path, ema=entry == 'state_dict')


def test_masks_counters_and_small_types_are_weights(tmp_path):
    state = dict(
        mask=torch.tensor([0, -torch.inf]),
        count=torch.tensor(3),
        flag=torch.tensor(True),
        empty=torch.ones(0),
        small=torch.ones(2).to(torch.float8_e4m3fn),
        shared=torch.ones(1).expand(5),
    )
    torch.save(state, tmp_path / 'student.pth')
    assert read_state_dict(tmp_path / 'student.pth')[0].keys() == state.keys()
