"""Processes of a launch meet, and a port that is taken is said at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cli import rendezvous
from cli.rendezvous import meet
from mmkdlayer.errors import ConfigError

HOST = '127.0.0.1'


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Another program's socket, which never answers."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        yield taken


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    for name in (*rendezvous._JOB, 'TORCHELASTIC_USE_AGENT_STORE'):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as free:
        free.bind((HOST, 0))
        number = free.getsockname()[1]
    values = dict(MASTER_ADDR=HOST, MASTER_PORT=str(number), WORLD_SIZE='2', RANK='0')
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return number


def test_two_processes(port: int) -> None:
    # Threads have one environment: the second is called with what meet would read.
    with ThreadPoolExecutor() as pool:
        second = pool.submit(rendezvous._join, (HOST, port), 20, '2////', 1)
        first = meet(20)
        store = second.result()
    assert (first['rank'], first['world_size']) == (0, 2)
    first['store'].set('key', 'value')
    assert store.get('key') == b'value'
    # What another launch on the same port sees, whose first process fails at once.
    with pytest.raises(ConfigError, match=f'Port {port} of {HOST} is taken: another program'):
        meet(20)
    with pytest.raises(ConfigError, match='a process with the number 1 is there already'):
        rendezvous._join((HOST, port), 20, '2////', 1)
    with pytest.raises(ConfigError, match='another launch listens there .2////; this one is 4////'):
        rendezvous._join((HOST, port), 20, '4////', 3)


@pytest.mark.parametrize('rank', [0, 1])
def test_a_port_that_is_taken(
    rank: int, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MASTER_PORT', str(listener.getsockname()[1]))
    monkeypatch.setenv('RANK', str(rank))
    monkeypatch.setattr(rendezvous, 'ANSWER', 0.5)
    with pytest.raises(ConfigError, match=r'^Port \d+ of 127.0.0.1 is taken: .*MASTER_PORT'):
        meet(600)


@pytest.mark.parametrize(('rank', 'other'), [(0, 1), (1, 0)])
def test_a_process_that_does_not_come(
    rank: int, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RANK', str(rank))
    with pytest.raises(RuntimeError, match=f'timed out after 1 s: no sign of process {other}'):
        meet(1)


@pytest.mark.parametrize(
    ('name', 'value'), [('MASTER_PORT', 'http'), ('MASTER_PORT', '70000'), ('RANK', '-1')]
)
def test_what_is_no_number(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}='{value}': expected a number"):
        meet(1)


def test_one_process(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('WORLD_SIZE', '1')
    assert meet(1)['store'].port == port


def test_torchrun_has_a_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCHELASTIC_USE_AGENT_STORE', 'True')
    assert meet(1) == {}
