"""Launching on machines without CUDA, where mmengine's own launchers can't run."""

from __future__ import annotations

import os
import subprocess

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device

from mmkdlayer.errors import ConfigError

# For each launcher: variables that hold rank, number of processes and rank on this machine.
LAUNCHERS: dict[str, tuple[str, str, str]] = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def prepare_launch(cfg: Config) -> None:
    """Start the process group with gloo where there is no accelerator, before the Runner would.

    mmengine's launchers select a CUDA device, and its DDP wrapper names one; on a CPU both fail. On a
    machine with an accelerator this does nothing.

    Args:
        cfg: The config; ``launcher`` is read, ``env_cfg`` and ``model_wrapper_cfg`` are set.

    Raises:
        ConfigError: The launcher's environment variables are not there.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or get_device() != 'cpu':
        return
    variables = LAUNCHERS[launcher]
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise ConfigError(
            f'--launcher {launcher} expects the environment variables {", ".join(variables)}, but '
            f'{", ".join(missing)} are not set. Start through tools/dist_train.sh or '
            'tools/slurm_train.sh, or leave the launcher out.'
        )
    for name, source in zip(('RANK', 'WORLD_SIZE', 'LOCAL_RANK'), variables):
        os.environ[name] = os.environ[source]
    if launcher == 'slurm':
        os.environ.setdefault('MASTER_ADDR', first_slurm_host())
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo')
    cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def end_launch() -> None:
    """Leave the process group together: a rank that just exits may abort the others at their exit."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def first_slurm_host() -> str:
    """The name of the first host of this Slurm job."""
    hosts = os.environ.get('SLURM_STEP_NODELIST') or os.environ.get('SLURM_NODELIST', '')
    try:
        output = subprocess.run(
            ['scontrol', 'show', 'hostname', hosts], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f'--launcher slurm: "scontrol show hostname {hosts}" failed ({error}), so the address of '
            'the first process is not known. Set MASTER_ADDR.'
        ) from error
    return output.stdout.split()[0]
