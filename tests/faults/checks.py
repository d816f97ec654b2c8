"""What is compared: how a command ended, and what it left, with a run that nobody disturbed."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from mmkdlayer.checkpoints import read_checkpoint

from .job import EPOCHS
from .processes import Ended

#: Folders of logs, and what differs from run to run.
LOGS = re.compile(r'^(work|tested)/\d{8}_\d{6}(/|$)')
#: Where handles or memory lack, torch's own work at exit fails, after all that is ours.
AT_EXIT = 'Exception ignored in atexit callback'
TEMPORARY = re.compile(r'(^|/)\.|mmkdlayer_fitting_')


def problems(ended: Ended, allowed: tuple[int, ...]) -> list[str]:
    """What is wrong with the way in which a command ended; ``allowed`` are codes besides 0 and 2."""
    found = []
    if ended.hung:
        found.append('it hung')
    elif ended.code in (-signal.SIGKILL, -signal.SIGXFSZ) and ended.code in allowed:
        pass  # what its data workers say then does not matter
    elif ended.code not in (0, 2, *allowed):
        found.append(f'exit code {ended.code}: {last_line(ended)}')
    elif 'Traceback (most recent call last)' in ended.output + ended.errors.partition(AT_EXIT)[0]:
        found.append(f'a traceback, with exit code {ended.code}: {last_line(ended)}')
    elif ended.code == 2 and not message(ended):
        found.append(f'exit code 2 without a one-line error: {last_line(ended)}')
    if ended.left:
        found.append(f'it left {len(ended.left)} processes running')
    return found


def message(ended: Ended) -> str:
    """The one-line error that a command ended with, or nothing."""
    _, mark, text = f'\n{ended.errors.partition(AT_EXIT)[0]}'.rpartition('\nerror: ')
    return text.strip() if mark and '\n' not in text.strip() else ''


def warned_of(ended: Ended, name: str) -> bool:
    """Whether a warning names a file."""
    lines = f'{ended.output}\n{ended.errors}'.splitlines()
    return any(name in line and 'WARNING' in line for line in lines)


def last_line(ended: Ended) -> str:
    """The last thing that it said."""
    lines = [line for line in f'{ended.output}\n{ended.errors}'.splitlines() if line.strip()]
    return lines[-1][:300] if lines else '(nothing)'


def results(folder: Path, command: str) -> dict[str, str]:
    """What a command has made of a job: each result with a digest, and the names of all files."""
    found = {}
    for path in sorted(folder.rglob('*')):
        name = path.relative_to(folder).as_posix()
        if LOGS.match(name) or name.startswith('data/') or path.is_dir():
            continue
        if command == 'fit' and not name.startswith('work/decisions/'):
            continue
        if command.startswith('store') and not name.startswith('work/store/'):
            continue
        try:
            found[name] = _content(path, name, command)
        except Exception as error:  # damaged files have many
            found[name] = f'unreadable: {type(error).__name__}'
    return found


def _content(path: Path, name: str, command: str) -> str:
    """What is compared of a file; nothing where only its name is."""
    if command.startswith('store'):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if command.startswith(('train', 'fit')) and path.suffix == '.safetensors':
        return digest(load(path.read_bytes()))
    if command.startswith('train') and name == f'work/epoch_{EPOCHS}.pth':
        checkpoint = read_checkpoint(path)
        keys = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
        return digest([checkpoint[key] for key in keys])
    if command == 'export' and name == 'student/student.pth':
        return digest(read_checkpoint(path)['state_dict'])
    return path.read_text() if name == 'metrics.json' else ''


def differences(found: dict[str, str], expected: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Names, and what is wrong with them: missing, of another content, or should not be there."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected:
            kind = 'temporary ' if TEMPORARY.search(name) else ''
            yield name, f'{kind}file {name} is left'
        elif name not in found:
            yield name, f'{name} is missing'
        elif found[name] != expected[name]:
            yield name, f'{name} has another content'


def digest(value: Any) -> str:
    """A hash of nested containers of tensors and plain values."""
    state = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            item = item.detach().cpu().contiguous()
            state.update(f'{item.dtype} {tuple(item.shape)}'.encode())
            state.update(item.view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(item, dict):
            for key in sorted(item, key=str):
                state.update(str(key).encode())
                add(item[key])
        elif isinstance(item, (list, tuple)):
            for one in item:
                add(one)
        else:
            state.update(json.dumps(item, default=str).encode())

    add(value)
    return state.hexdigest()[:16]
