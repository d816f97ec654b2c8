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
    host, port = os.environ['MASTER_ADDR'], _number('MASTER_PORT', 1, 65535)
    launch = '/'.join([str(world), *(os.environ.get(name, '') for name in _JOB)])
    if rank == 0:
        store = _open(host, port, world, timeout, launch)
    else:
        store = _join(host, port, world, timeout, launch, rank)
    return dict(store=store, rank=rank, world_size=world)


def _open(host: str, port: int, world: int, timeout: float, launch: str) -> Any:
    """Listen at the port, as the first process, and wait for the others."""
    try:
        store = _store(host, port, world, timeout, True)
    except RuntimeError as error:
        if 'EADDRINUSE' not in str(error) and 'already in use' not in str(error):
            raise
        raise _taken(host, port, 'another program listens there') from error
    store.set(_LAUNCH, launch)
    for rank in range(1, world):
        try:
            store.wait([f'{_LAUNCH}/{rank}'])
        except RuntimeError as error:
            raise RuntimeError(
                f'timed out after {timeout:.0f} s: no sign of process {rank}'
            ) from error
    return store


def _join(host: str, port: int, world: int, timeout: float, launch: str, rank: int) -> Any:
    """Reach the first process, and be sure that it is that of this launch."""
    end = time.monotonic() + timeout
    while not _listens(host, port):
        if time.monotonic() > end:
            raise RuntimeError(
                f'timed out after {timeout:.0f} s: no sign of process 0 at {host}:{port}'
            )
        time.sleep(PAUSE)
    store, other = _ask(host, port, world, min(ANSWER, timeout))
    if other != launch:
        raise _taken(host, port, f'another launch listens there ({other}; this one is {launch})')
    if store.add(f'{_LAUNCH}/{rank}', 1) > 1:
        raise _taken(host, port, f'a process with the number {rank} is there already')
    store.set_timeout(timedelta(seconds=timeout))
    return store


def _ask(host: str, port: int, world: int, patience: float) -> tuple[Any, str]:
    """Connect to what listens there, and ask which launch it is of.

    torch waits for an answer without an end: it does so in a thread that is left behind.
    """
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            store = _store(host, port, world, patience, False)
            store.wait([_LAUNCH], timedelta(seconds=patience))
            answers.put((store, store.get(_LAUNCH).decode(errors='replace')))
        except Exception as error:  # whatever torch makes of a foreign answer
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=patience + 1)
    except queue.Empty:
        answer = TimeoutError('it does not answer')
    if isinstance(answer, Exception):
        raise _taken(host, port, f'what listens there is no process of ours ({answer})') from answer
    return answer


def _store(host: str, port: int, world: int, timeout: float, first: bool) -> Any:
    return torch.distributed.TCPStore(
        host, port, world, first, timedelta(seconds=timeout), wait_for_workers=False
    )


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def _taken(host: str, port: int, why: str) -> ConfigError:
    brief = why.split('\n')[0][:300]
    return ConfigError(
        f'Port {port} of {host} is taken: {brief}. Choose another one for all processes of this launch, '
        'with MASTER_PORT (dist_train.sh: PORT), or end the other launch.'
    )


def _number(name: str, least: int, most: int = 1 << 31) -> int:
    text = os.environ.get(name, '')
    if not (text.isdecimal() and least <= int(text) <= most):
        raise ConfigError(f'{name}={text!r}: expected a number from {least} to {most}.')
    return int(text)
