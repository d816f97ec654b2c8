"""Weights of other libraries are read from files of torch and safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmkdlayer.errors import CheckpointError
from mmkdlayer.models.teachers.weights import read_weights

STATE = dict(weight=torch.arange(6.0).view(2, 3), bias=torch.ones(2))


@pytest.mark.parametrize(
    'content', [STATE, dict(state_dict=STATE), dict(model=STATE, epoch=3), dict(teacher=STATE)]
)
def test_torch(tmp_path: Path, content: dict) -> None:
    torch.save(content, tmp_path / 'a.pth')
    found = read_weights(tmp_path / 'a.pth')
    assert found.keys() == STATE.keys()
    assert torch.equal(found['weight'], STATE['weight'])


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / 'a.safetensors')
    found = read_weights(str(tmp_path / 'a.safetensors'))
    assert torch.equal(found['weight'], STATE['weight'])
    whole = (tmp_path / 'a.safetensors').read_bytes()
    (tmp_path / 'a.safetensors').write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match='expected a whole safetensors file'):
        read_weights(tmp_path / 'a.safetensors')


class Harmful:
    def __reduce__(self) -> Any:
        return print, ('run',)


def test_what_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='there is no such file'):
        read_weights(tmp_path / 'none.safetensors')
    torch.save(dict(model=dict(weight=Harmful())), tmp_path / 'code.pth')
    with pytest.raises(CheckpointError, match='It is not loaded'):
        read_weights(tmp_path / 'code.pth')
    torch.save(dict(weight=torch.tensor([float('nan')])), tmp_path / 'nan.pth')
    with pytest.raises(CheckpointError, match='holds NaN'):
        read_weights(tmp_path / 'nan.pth')
