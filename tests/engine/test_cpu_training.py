"""Mixed precision and SyncBN on the CPU."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdlayer.engine.cpu_training import CpuAmpOptimWrapper, CpuSyncBatchNorm

TWO_PROCESSES = """
import multiprocessing, sys
import torch
import torch.distributed as dist
from torch import nn
from mmkdlayer.engine.cpu_training import CpuDistributedDataParallel

torch.set_num_threads(1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 3))


def data():
    # Ranks of different sizes: 1 and 3 images.
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * 3 + 7


def results(model, root, loss):
    loss.backward()
    return [p.grad for p in root.parameters()] + [b.float() for b in root.buffers()]


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    root = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    model = CpuDistributedDataParallel(root, device_ids=None, broadcast_buffers=False)
    part = data()[:1] if rank == 0 else data()[1:]
    # DDP takes the mean over the ranks: twice their sums is the sum over all images.
    torch.save(results(model, root, 2 * model(part).square().sum()), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    folder = sys.argv[1]
    fork = multiprocessing.get_context('fork')
    workers = [fork.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    model = network()
    expected = results(model, model, model(data()).square().sum())
    for rank in range(2):
        for found, value in zip(torch.load(f'{folder}/{rank}.pth'), expected):
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)
    print('equal')
"""


def test_sync_batch_norm_of_two_processes_equals_one_on_the_joint_batch(
    run_script: Callable[..., str], tmp_path: Any
) -> None:
    assert run_script(TWO_PROCESSES, str(tmp_path)).endswith('equal\n')


@pytest.mark.parametrize('momentum', [0.1, None])
@pytest.mark.parametrize('training', [True, False])
def test_sync_batch_norm_alone_is_a_batch_norm(training: bool, momentum: float | None) -> None:
    plain, ours = (nn.BatchNorm2d(3, momentum=momentum) for _ in range(2))
    ours.__class__ = CpuSyncBatchNorm  # type: ignore[assignment]
    for norm in (plain, ours):
        norm.train()
        norm(torch.arange(24.0).view(2, 3, 2, 2))
        norm.train(training)
    x = torch.randn(4, 3, 2, 5)
    torch.testing.assert_close(ours(x), plain(x))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert isinstance(ours, _BatchNorm)


def test_amp_runs_kd_layers_in_full_precision(
    make_distillation: Callable[..., nn.Module],
    make_batch: Callable[..., tuple[Tensor, list]],
) -> None:
    model, plain = make_distillation(), make_distillation()
    dtypes: dict[str, torch.dtype] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            dtypes[name] = output.dtype

        return hook

    student: Any = model.student
    for name in ('backbone.layer2.0.conv1', 'kd_layers.inter.templates', 'kd_layers.inter'):
        student.get_submodule(name).register_forward_hook(remember(name))
    losses = []
    for net, wrap in ((model, CpuAmpOptimWrapper), (plain, None)):
        parameters = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        wrapper: Any = (wrap or CpuAmpOptimWrapper.__base__)(optimizer=optimizer)
        for step in range(2):
            inputs, samples = make_batch(seed=step)
            log = net.train_step(dict(inputs=list(inputs), data_samples=samples), wrapper)
            losses.append({name: float(value.detach()) for name, value in log.items()})
    assert dtypes['backbone.layer2.0.conv1'] == torch.bfloat16
    assert dtypes['kd_layers.inter.templates'] == torch.float32
    assert dtypes['kd_layers.inter'] == torch.bfloat16  # the feature map's own
    # bfloat16 has 8 bits: near the full precision, but not equal to it.
    for found, expected in zip(losses[:2], losses[2:]):
        assert found == pytest.approx(expected, rel=0.05)
        assert found != expected
    for name, parameter in student.kd_layers.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert bool(parameter.isfinite().all())
