"""Launching: how long processes wait for each other, and CPUs, which mmengine's launchers can't use."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import timedelta

import torch.distributed
from mmengine import dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.utils.dl_utils import set_multi_processing

from mmkdlayer.errors import ConfigError

from .rendezvous import meet

# For each launcher: variables that hold rank, number of processes and rank on this machine.
LAUNCHERS: dict[str, tuple[str, str, str]] = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
#: Seconds that a process waits for another one (torch's own default for gloo).
TIMEOUT = 1800
# How gloo and the rendezvous say that another process is gone or silent.
_LOST = re.compile(
    r'gloo|connection (closed|reset) by peer|timed out (waiting|after)|socket timeout|broken pipe',
    re.I,
)


def prepare_launch(cfg: Config, timeout: float | None = None) -> None:
    """Set the timeout and start the process group before the Runner would; on a CPU, gloo's.

    mmengine's launchers select a CUDA device, and its DDP wrapper names one; on a CPU both fail.

    Args:
        cfg: The config; ``launcher`` is read, ``env_cfg`` and ``model_wrapper_cfg`` are set.
        timeout: Seconds that a process waits for another one; None for the config's
            (``env_cfg.dist_cfg.timeout``) or else :data:`TIMEOUT`.

    Raises:
        ConfigError: The launcher's environment variables are not there, or the timeout is not
            positive, or the port is taken, or this process has no GPU of its own.
        RuntimeError: Not all processes came within the timeout.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    if timeout is None:
        timeout = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout') or TIMEOUT
    if not timeout > 0:
        raise ConfigError(f'--dist-timeout expects seconds above 0, but got {timeout}.')
    cfg.merge_from_dict({'env_cfg.dist_cfg.timeout': timeout})
    _set_environment(launcher)
    if get_device() != 'cpu':
        # Now, and not in the Runner, so that ranks can be compared before anything is built.
        if not dist.is_distributed():
            _check_device()
            set_multi_processing(**cfg.env_cfg.get('mp_cfg', {}), distributed=True)
            dist.init_dist(launcher, **cfg.env_cfg.dist_cfg, **meet(timeout))
        return
    if not torch.distributed.is_initialized():
        wait = timedelta(seconds=timeout)
        torch.distributed.init_process_group(backend='gloo', timeout=wait, **meet(timeout))
    cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='mmkdlayer.CpuDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def _set_environment(launcher: str) -> None:
    """Set torch's own variables from those of a launcher."""
    variables = LAUNCHERS[launcher]
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise ConfigError(
            f'--launcher {launcher} expects the environment variables {", ".join(variables)}, but '
            f'{", ".join(missing)} are not set. Start through python -m mmkdlayer dist_train or '
            'python -m mmkdlayer slurm_train, or leave the launcher out.'
        )
    for name, source in zip(LAUNCHERS['pytorch'], variables):
        os.environ[name] = os.environ[source]
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = first_slurm_host()
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')


def _check_device() -> None:
    """Raise a ConfigError where this process has no GPU of its own."""
    number, there = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
    if get_device() == 'cuda' and number >= there:
        raise ConfigError(
            f'This is process {number} (from 0) on this machine, but it sees {there} GPU(s), and each '
            'process needs one of its own. Start as many processes on a machine as it has GPUs. All of '
            'them must see all its GPUs: with Slurm --gpus-per-node=N, not --gpus-per-task or '
            '--gpu-bind; no CUDA_VISIBLE_DEVICES of each process.'
        )


def first_slurm_host() -> str:
    """The name of the first host of this Slurm job."""
    hosts = os.environ.get('SLURM_STEP_NODELIST') or os.environ.get('SLURM_NODELIST', '')
    try:
        names = subprocess.check_output(['scontrol', 'show', 'hostname', hosts], text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f'--launcher slurm: "scontrol show hostname {hosts}" failed ({error}), so the address of '
            'the first process is not known. Set MASTER_ADDR.'
        ) from error
    return names.split()[0]


def end_launch() -> None:
    """End the process group, after the work: its threads must not outlive the interpreter."""
    if dist.is_distributed():
        dist.barrier()
        torch.distributed.destroy_process_group()


def explain_lost_process(error: Exception) -> str | None:
    """What to tell the user where a process lost contact with another one; None for other errors."""
    ranks = int(os.environ.get('WORLD_SIZE', 1))
    kind = getattr(torch.distributed, 'DistError', ())
    first_line, *others = str(error).strip().split('\n')
    if ranks == 1 or not (isinstance(error, kind) or _LOST.search(first_line)):
        return None
    if 'Last error:' in others:  # NCCL says why after it has said where
        first_line = f'{first_line}: {" ".join(others[others.index("Last error:") + 1 :])[:300]}'
    return (
        f'process {os.environ.get("RANK", "?")} of {ranks} (from 0) lost contact with another one '
        f'({first_line}). That one failed, was killed (often because memory ran out), or gave no sign '
        f'for the time of --dist-timeout ({TIMEOUT} seconds unless set). Its own output, or the log of '
        'the machine, says why. All processes end now; --resume continues from the last checkpoint.'
    )
