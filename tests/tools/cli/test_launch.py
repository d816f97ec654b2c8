"""Launching without an accelerator."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from mmengine.config import Config

from cli import launch
from mmkdlayer.errors import ConfigError


@pytest.fixture(autouse=True)
def no_process_group(monkeypatch: pytest.MonkeyPatch) -> list:
    calls: list = []
    monkeypatch.setattr(launch, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(launch, 'meet', lambda timeout: dict(rank=7))
    monkeypatch.setattr(
        torch.distributed, 'init_process_group', lambda **kwargs: calls.append(kwargs)
    )
    for names in launch.LAUNCHERS.values():
        for name in names:
            monkeypatch.setenv(name, '0')
            monkeypatch.delenv(name)
    for name in ('MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '0')
        monkeypatch.delenv(name)
    return calls


def test_no_launcher_changes_nothing(no_process_group: list) -> None:
    cfg = Config(dict(launcher='none'))
    launch.prepare_launch(cfg)
    assert no_process_group == []
    assert 'model_wrapper_cfg' not in cfg


@pytest.fixture
def on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> list:
    """The calls of mmengine's ``init_dist``, where there is an accelerator."""
    started: list = []
    monkeypatch.setattr(launch, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(launch, 'set_multi_processing', lambda **kwargs: None)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(
        launch.dist, 'init_dist', lambda *args, **kwargs: started.append((args, kwargs))
    )
    monkeypatch.setattr(launch, 'first_slurm_host', lambda: 'node7')
    for name in launch.LAUNCHERS['slurm']:
        monkeypatch.setenv(name, '0')
    return started


def test_accelerator_is_mmengines_business(no_process_group: list, on_an_accelerator: list) -> None:
    cfg = Config(dict(launcher='slurm', env_cfg=dict(dist_cfg=dict(backend='nccl'))))
    launch.prepare_launch(cfg)
    assert on_an_accelerator == [(('slurm',), dict(backend='nccl', timeout=1800, rank=7))]
    assert no_process_group == []
    assert 'model_wrapper_cfg' not in cfg


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_gloo_from_the_launchers_environment(
    launcher: str, no_process_group: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(launch.LAUNCHERS[launcher], ('3', '4', '1')):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, 'first_slurm_host', lambda: 'node7')
    cfg = Config(dict(launcher=launcher, find_unused_parameters=True))
    launch.prepare_launch(cfg)
    assert no_process_group == [dict(backend='gloo', timeout=timedelta(seconds=1800), rank=7)]
    assert [launch.os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')] == ['3', '4', '1']
    assert launch.os.environ['MASTER_ADDR'] == ('node7' if launcher == 'slurm' else '127.0.0.1')
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is True
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'


def test_given_address_needs_no_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*launch.LAUNCHERS['slurm'], 'MASTER_ADDR', 'RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '1')
    monkeypatch.setenv('PATH', '')
    launch.prepare_launch(Config(dict(launcher='slurm')))
    assert launch.os.environ['MASTER_ADDR'] == '1'
    monkeypatch.delenv('MASTER_ADDR')
    with pytest.raises(ConfigError, match='"scontrol show hostname .*Set MASTER_ADDR'):
        launch.prepare_launch(Config(dict(launcher='slurm')))


def test_missing_environment_is_named() -> None:
    with pytest.raises(ConfigError, match='RANK, WORLD_SIZE, LOCAL_RANK'):
        launch.prepare_launch(Config(dict(launcher='pytorch')))


@pytest.mark.parametrize(('given', 'config', 'expected'), [(60, 90, 60), (None, 90, 90)])
def test_timeout_reaches_mmengine_on_an_accelerator(
    given: float | None, config: float, expected: float, on_an_accelerator: list
) -> None:
    cfg = Config(dict(launcher='slurm', env_cfg=dict(dist_cfg=dict(timeout=config))))
    launch.prepare_launch(cfg, given)
    assert cfg.env_cfg.dist_cfg.timeout == expected
    assert on_an_accelerator == [(('slurm',), dict(timeout=expected, rank=7))]


def test_process_without_a_gpu_of_its_own_is_told_so(
    on_an_accelerator: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(launch.LAUNCHERS['slurm'], ('2', '4', '2')):
        monkeypatch.setenv(name, value)
    cfg = Config(dict(launcher='slurm', env_cfg=dict(dist_cfg=dict(backend='nccl'))))
    with pytest.raises(ConfigError, match=r'process 2 .*sees 2 GPU.*--gpus-per-node=N'):
        launch.prepare_launch(cfg)
    assert on_an_accelerator == []


def test_lost_process_is_told_from_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = RuntimeError('[gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:2\nmore')
    assert launch.explain_lost_process(lost) is None  # a process that is alone
    monkeypatch.setenv('WORLD_SIZE', '4')
    monkeypatch.setenv('RANK', '2')
    text = launch.explain_lost_process(lost)
    assert text is not None
    assert text.startswith('process 2 of 4 (from 0) lost contact')
    assert '\n' not in text
    assert launch.explain_lost_process(RuntimeError('mat1 and mat2 shapes differ')) is None


def test_what_nccl_says_last_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    error = torch.distributed.DistBackendError(
        'NCCL error in: ProcessGroupNCCL.cpp:2251, invalid usage, NCCL version 2.27\nncclInvalidUsage: '
        'this usually reflects invalid usage of NCCL library.\nLast error:\nDuplicate GPU detected : '
        'rank 1 and rank 0 both on CUDA device 1000'
    )
    text = launch.explain_lost_process(error)
    assert text is not None
    assert (
        'invalid usage, NCCL version 2.27: Duplicate GPU detected : rank 1 and rank 0 both' in text
    )
    assert '\n' not in text
