"""Where the processes of a launch meet: a port of the first one, which nobody else may use."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from datetime import timedelta
from typing import Any

import torch.distributed

from mmkdlayer.errors import ConfigError

#: Seconds in which a port that is open must answer as the first process does.
ANSWER = 30.0
#: Seconds between two tries to reach the first process.
PAUSE = 0.2
#: What the first process is asked for: which launch it belongs to.
_LAUNCH = 'mmkdlayer/launch'
#: What tells one launch from another: the numbers that schedulers give.
_JOB = ('SLURM_JOB_ID', 'SLURM_STEP_ID', 'OMPI_MCA_ess_base_jobid', 'PMIX_NAMESPACE')


def meet(timeout: float) -> dict[str, Any]:
    """Let all processes of a launch find each other at ``MASTER_ADDR:MASTER_PORT``.

    torch does so too, but where the port is taken only the first process fails at once: the others wait
    for an answer of whoever has it, or join another launch.

    Args:
        timeout: Seconds to wait for the others.

    Returns:
        Arguments for ``init_process_group``; none where torchrun has a port of its own.

    Raises:
        ConfigError: The port is taken, or a variable is no number.
        RuntimeError: Another process did not come within the timeout.
    """
    rank, world = _number('RANK', 0), _number('WORLD_SIZE', 1)
    if os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True':
        return {}
    place = os.environ['MASTER_ADDR'], _number('MASTER_PORT', 1, 65535)
    launch = '/'.join([str(world), *(os.environ.get(name, '') for name in _JOB)])
    store = _join(place, timeout, launch, rank) if rank else _open(place, timeout, launch, world)
    return dict(store=store, rank=rank, world_size=world)


def _open(place: tuple[str, int], timeout: float, launch: str, world: int) -> Any:
    """Listen at the port, as the first process, and wait for the others."""
    try:
        store = _store(place, timeout, is_master=True)
    except RuntimeError as error:
        if 'EADDRINUSE' not in str(error) and 'already in use' not in str(error):
            raise
        raise _taken(place, 'another program listens there') from error
    store.set(_LAUNCH, launch)
    for rank in range(1, world):
        try:
            store.wait([f'{_LAUNCH}/{rank}'])
        except RuntimeError as error:
            raise _silent(rank, timeout) from error
    return store


def _join(place: tuple[str, int], timeout: float, launch: str, rank: int) -> Any:
    """Reach the first process, and be sure that it is that of this launch."""
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(place, timeout=5).close()
            break
        except OSError as error:
            if time.monotonic() > end:
                raise _silent(0, timeout) from error
            time.sleep(PAUSE)
    answer = _ask(place, min(ANSWER, timeout))
    if isinstance(answer, Exception):
        raise _taken(place, f'what listens there is no process of ours ({answer})') from answer
    store, other = answer
    if other != launch:
        raise _taken(place, f'another launch listens there ({other}; this one is {launch})')
    if store.add(f'{_LAUNCH}/{rank}', 1) > 1:
        raise _taken(place, f'a process with the number {rank} is there already')
    store.set_timeout(timedelta(seconds=timeout))
    return store


def _ask(place: tuple[str, int], patience: float) -> Any:
    """Connect to what listens there: the store, and which launch it is of; or an error.

    torch waits for an answer without an end: it does so in a thread that is left behind.
    """
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            store = _store(place, patience)
            answers.put((store, store.get(_LAUNCH).decode(errors='replace')))
        except Exception as error:  # whatever torch makes of a foreign answer
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=patience + 1)
    except queue.Empty:
        return TimeoutError('it does not answer')


def _store(place: tuple[str, int], timeout: float, is_master: bool = False) -> Any:
    wait = timedelta(seconds=timeout)
    return torch.distributed.TCPStore(
        *place, is_master=is_master, timeout=wait, wait_for_workers=False
    )


def _silent(rank: int, timeout: float) -> RuntimeError:
    return RuntimeError(f'timed out after {timeout:.0f} s: no sign of process {rank}')


def _taken(place: tuple[str, int], why: str) -> ConfigError:
    brief = why.split('\n')[0][:300]
    return ConfigError(
        f'Port {place[1]} of {place[0]} is taken: {brief}. Choose another one for all processes of '
        'this launch, with MASTER_PORT (dist_train.sh: PORT), or end the other launch.'
    )


def _number(name: str, least: int, most: int = 1 << 31) -> int:
    text = os.environ.get(name, '')
    if not (text.isdecimal() and least <= int(text) <= most):
        raise ConfigError(f'{name}={text!r}: expected a number from {least} to {most}.')
    return int(text)
