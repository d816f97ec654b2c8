"""Triton's kernels: what they calculate, what they are compiled to, and where they can't be used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import CentroidDecision, KDLayerConnector, TeacherDecisionLoss

ROOT = Path(__file__).resolve().parents[3]
CASES = Path(__file__).with_name('triton_cases.py')


def has_triton() -> bool:
    """Whether there is a Triton whose interpreter and compiler these tests can use without a GPU."""
    try:
        return tuple(map(int, version('triton').split('.')[:2])) >= (3, 4)
    except PackageNotFoundError:
        return False


needs_triton = pytest.mark.skipif(not has_triton(), reason='needs triton 3.4 or later')


def run_python(*arguments: str, **environment: str) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    env = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1', **environment)
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    return result.stdout


@needs_triton
def test_equal_to_the_plain_way_under_the_interpreter() -> None:
    found = run_python(
        '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(CASES), TRITON_INTERPRET='1'
    )  # fmt: skip
    assert re.search(r'\b\d+ passed', found) and 'skipped' not in found


def test_triton_is_imported_where_it_is_used() -> None:
    """No module imports it, or a file of kernels, when it is imported itself."""
    for file in (ROOT / 'mmkdlayer').rglob('*.py'):
        lines = file.read_text().splitlines() if file.name != 'triton_kernels.py' else []
        assert not [line for line in lines if re.match(r'(from|import) .*\btriton', line)], file


def kernels() -> list[tuple[Any, dict[str, Any], int]]:
    """Each kernel as it is started for a large layer: its constants, and threads / 32."""
    from mmkdlayer.models.connectors import triton_kernels as layer
    from mmkdlayer.models.losses import triton_kernels as loss

    sums = dict(SUM_ROWS=layer.SUM_ROWS, SUM_COLUMNS=layer.SUM_COLUMNS)
    rows, columns = layer._block(8000)
    block = dict(ROWS=rows, COLUMNS=columns)
    loss_rows, loss_columns = loss._block(8000)
    loss_block = dict(ROWS=loss_rows, COLUMNS=loss_columns)
    both = dict(THROUGH_STATISTICS=True, WITH_LOSS=True)
    return [
        (layer.statistics_of_runs, sums, layer.SUM_WARPS),
        (layer.statistics_of_all, dict(RUNS=16, ADD_COLUMNS=layer.ADD_COLUMNS), layer.WARPS),
        (layer.assignments, dict(block, WITH_SQUARES=True), layer.WARPS),
        (layer.masked_gradient_of_runs, sums, layer.SUM_WARPS),
        (layer.score_gradients, dict(block, **both), layer.WARPS),
        *(
            (kernel, dict(loss_block, ARE_LOGITS=are_logits), loss.WARPS)
            for kernel in (loss.divergences, loss.divergence_gradients)
            for are_logits in (False, True)
        ),
    ]


def types_of(kernel: Any, constants: dict[str, Any], numbers: str) -> dict[str, str]:
    """The type of each argument: pointers, and integers that are no constants."""
    integers = {'rows', 'columns', 'all_rows', 'run'}
    return {
        name: 'constexpr'
        if name in constants
        else 'i32'
        if name in integers or name.endswith('stride')
        else '*i64'
        if name == 'index'
        else f'*{numbers}'
        for name in kernel.arg_names
    }


@needs_triton
@pytest.mark.parametrize(
    ('capability', 'numbers'),
    [  # an H100, an A100
        (90, 'fp32'),
        pytest.param(80, 'fp32', marks=pytest.mark.slow),
        pytest.param(80, 'fp64', marks=pytest.mark.slow),
    ],
)
def test_compiled_for_a_gpu_without_one(
    capability: int, numbers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registers suffice, loads are of 16 bytes at a time, and nothing is added atomically."""
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path / 'cache'))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tools = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin'
    for kernel, constants, warps in kernels():
        names = kernel.arg_names
        odd = {*constants, 'rows', 'all_rows', 'score_sums', 'target_sums'}
        code = triton.compile(
            ASTSource(
                fn=kernel,
                signature=types_of(kernel, constants, numbers),
                constexprs={(names.index(name),): value for name, value in constants.items()},
                # As Triton finds for tensors of torch and 8000 templates: multiples of 16.
                attrs={
                    (place,): [['tt.divisibility', 16]]
                    for place, name in enumerate(names)
                    if name not in odd
                },
            ),
            target=GPUTarget('cuda', capability, 32),
            options=dict(num_warps=warps),
        ).asm
        assert not re.search(r'\b(atom|red)\.', code['ptx']), kernel
        if kernel.fn.__name__ != 'statistics_of_all':  # which reads little
            assert re.search(r'ld\.global\.(v4\.b32|v2\.b64)', code['ptx']), kernel
        binary = tmp_path / 'kernel.cubin'
        binary.write_bytes(code['cubin'])
        usage = subprocess.run(
            [tools / 'cuobjdump', '-res-usage', binary], capture_output=True, text=True, check=True
        ).stdout
        assert 'STACK:0' in usage and 'LOCAL:0' in usage, (kernel, usage)
        registers = int(re.findall(r'REG:(\d+)', usage)[0])
        assert registers * warps * 32 <= 65536 // 4 or numbers == 'fp64', (kernel, registers)


def test_a_machine_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = KDLayerConnector(4, 8, implementation='triton')
    hint = r'.*mmkdlayer\[triton\].*memory_efficient'
    for found, message in (
        (None, 'none is installed'),
        (SimpleNamespace(__version__='2.1.0'), '2.1.0 is installed'),
    ):
        monkeypatch.setitem(sys.modules, 'triton', found)
        with pytest.raises(ConfigError, match=message + hint):
            layer(torch.randn(2, 4, 3, 3))


@needs_triton
def test_a_cpu_trains_without_triton_only() -> None:
    layer = KDLayerConnector(4, 8, implementation='triton')
    x, feature = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    with pytest.raises(ConfigError, match="trains on CUDA devices, but the device is 'cpu'"):
        layer(x)
    decision = CentroidDecision.from_tables(torch.randn(8, 4))
    loss = TeacherDecisionLoss(decision, implementation='triton')
    with pytest.raises(ConfigError, match='TeacherDecisionLoss.*trains on CUDA devices'):
        loss(torch.randn(2, 8, 3, 3, requires_grad=True), feature)
    # A student that was trained on a GPU is evaluated anywhere.
    plain = KDLayerConnector(4, 8, implementation='reference')
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x), plain.eval()(x))


@pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without a GPU')
def test_said_before_a_training_begins(nets: Any) -> None:
    """mmengine initialises the weights before the hooks that fit decisions."""
    network = nets.attached(implementation='triton')
    with pytest.raises(ConfigError, match="KDLayerConnector: implementation='triton'"):
        network.init_weights()
