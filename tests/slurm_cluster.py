"""A real Slurm of one node, with its own folder, ports and keys; needs root, slurm-wlm and munge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'scontrol')
CONFIG = """
ClusterName=mmkdlayer
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(condition: object, seconds: float, what: str) -> None:
    """Wait for a condition (a callable); fail after a while."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f'{what}: not within {seconds} s'
        time.sleep(0.2)


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Run a Slurm with the partition ``debug``.

    Yields:
        The environment variables with which its commands find it.

    Raises:
        AssertionError: A program is missing, or the node does not come up.
    """
    search = os.pathsep.join([os.environ['PATH'], '/usr/sbin', '/sbin'])
    programs = {name: shutil.which(name, path=search) for name in PROGRAMS}
    missing = [name for name, path in programs.items() if path is None]
    assert not missing, f'{missing} are missing: apt-get install slurm-wlm munge'
    folder = Path(tempfile.mkdtemp(prefix='slurm-', dir='/tmp'))  # a socket's path must be short
    for name in ('state', 'spool'):
        (folder / name).mkdir()
    controller_port, node_port = free_ports(2)
    (folder / 'slurm.conf').write_text(
        CONFIG.format(
            host=socket.gethostname().split('.')[0],
            folder=folder,
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    key = folder / 'munge.key'
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    env = dict(os.environ, SLURM_CONF=str(folder / 'slurm.conf'))
    munged = ['--foreground', '--force', f'--socket={folder}/munge.socket', f'--key-file={key}']
    munged += [f'--{name}-file={folder}/munge.{name}' for name in ('pid', 'log', 'seed')]
    commands = [['munged', *munged], ['slurmctld', '-D', '-c'], ['slurmd', '-D', '-c']]
    log = open(folder / 'log', 'w')  # noqa: SIM115
    daemons: list[subprocess.Popen] = []
    try:
        for name, *options in commands:
            daemons.append(
                subprocess.Popen([str(programs[name]), *options], stdout=log, stderr=log, env=env)
            )
            if name == 'munged':
                wait_until((folder / 'munge.socket').exists, 10, 'munged')

        def idle() -> bool:
            listing = ['sinfo', '--noheader', '--format=%T']
            return 'idle' in subprocess.run(listing, env=env, capture_output=True, text=True).stdout

        try:
            wait_until(idle, 30, 'the node')
        except AssertionError as error:
            raise AssertionError(f'{error}\n{(folder / "log").read_text()[-3000:]}') from error
        yield {'SLURM_CONF': env['SLURM_CONF']}
    finally:
        if len(daemons) == len(commands):
            subprocess.run(['scancel', '--user=root'], env=env, capture_output=True)
            time.sleep(0.5)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)
