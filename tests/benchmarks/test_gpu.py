"""The benchmark for GPUs: its order, how it goes on, what it does about cases that fail."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu
import gpu_cases
import pytest
import torch
from gpu_cases import LOGIT_KD, Case, Settings, all_cases
from records import Records

ROOT = Path(__file__).resolve().parents[2]
TINY = Settings('cpu', tiny=True)
#: A process that runs cases as gpu.py's does: "good" gives figures, "fatal" ends it, "slow" never ends.
WORKER = """
import json, os, sys, time
path = sys.argv[1]
found = json.load(open(path))
for name in ('good', 'fatal', 'slow', 'last'):
    for running in (name, None):
        if name in found['cases']:
            continue
        found['running'] = running
        if running is None:
            found['cases'][name] = dict(ms=1.5)
        json.dump(found, open(path + '.new', 'w'))
        os.replace(path + '.new', path)
        if running == 'fatal':
            sys.exit(9)
        while running == 'slow':
            time.sleep(1)
"""


def test_the_cases_and_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_cases, 'has_triton', lambda device: False)
    names = [case.name for case in all_cases(Settings('cuda'))]
    assert len(names) == len(set(names))
    assert names[:2] == ['tests', 'step imagenet; plain student; batch 256; default; eager']
    for pair, batch in itertools.product(('imagenet', 'cifar'), (64, 256)):
        for precision in ('default', 'float32', 'tf32', 'bf16'):
            for mode in ('eager', 'graph', 'compile'):
                assert f'step {pair}; letKD-2; batch {batch}; {precision}; {mode}' in names
            assert f'step {pair}; letKD-2, reference; batch {batch}; {precision}; eager' in names
            for kind, mode in itertools.product(('plain student', LOGIT_KD), ('eager', 'graph')):
                assert f'step {pair}; {kind}; batch {batch}; {precision}; {mode}' in names
        assert f'fitting {pair}' in names
    slow = [name.endswith('compile') for name in names]
    assert slow == sorted(slow)  # they are last
    assert 'tiles c; loss in 8; batch 256; tf32' in names
    monkeypatch.setattr(gpu_cases, 'has_triton', lambda device: True)
    more = [case.name for case in all_cases(Settings('cuda'))]
    assert 'step cifar; letKD-2, triton; batch 64; default; eager' in more
    assert 'layer c; triton; batch 256; tf32' in more
    assert set(names) < set(more)
    assert len(more) == 259  # as benchmarks/README.md says


def test_dry_run_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    out = tmp_path / 'gpu.json'
    only = 'cifar; letKD-2; batch 64; default; (eager|graph)|fitting cifar|layer a; memory.*default'
    line = [sys.executable, '-W', 'ignore', str(ROOT / 'benchmarks' / 'gpu.py'), '--device', 'cpu']
    line += ['--tiny', '--out', str(out), '--only', only, '--minutes', '4']
    Records(out).end('fitting cifar', seconds=3.25)  # of an earlier run
    done = subprocess.run(
        line,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('4 of 4 cases done, 1 of them failed.\n')
    cases = Records(out).cases
    step = cases['step cifar; letKD-2; batch 64; default; eager']
    assert step['ms'] > 0 and step['peak_mib'] > 0
    assert step['images_per_s'] == pytest.approx(2000 / step['ms'])
    error = cases['step cifar; letKD-2; batch 64; default; graph']['error']
    assert error == 'RuntimeError: CUDA graphs need a GPU'
    assert cases['fitting cifar'] == dict(seconds=3.25)
    table = (tmp_path / 'gpu.md').read_text()
    assert 'a dry run on a CPU' in table and '--worker' not in table
    for row in (
        '| layer a; memory_efficient; batch 256; default | ',
        '| fitting cifar | seconds 3.25',
    ):
        assert row in table


def test_processes_that_end_or_hang_cost_one_case_each(tmp_path: Path) -> None:
    script, records = tmp_path / 'worker.py', Records(tmp_path / 'gpu.json')
    script.write_text(WORKER)
    limits = dict(good=60.0, fatal=60.0, slow=0.5, last=60.0)
    cases = [Case(name, lambda settings: {}, limit) for name, limit in limits.items()]
    line = [sys.executable, str(script), str(records.path)]
    gpu.supervise(cases, records, line, time.monotonic() + 200)
    assert records.cases == dict(
        good=dict(ms=1.5),
        fatal=dict(error='the process ended with 9'),
        slow=dict(error='the process took longer than its limit'),
        last=dict(ms=1.5),
    )


def test_ends_in_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = Records(tmp_path / 'gpu.json')
    line = [sys.executable, '-c', 'import time; time.sleep(100)']
    case = Case('good', lambda settings: {})
    gpu.supervise([case], records, line, time.monotonic() + 0.5)
    assert records.cases == {}
    assert '0 of 1 cases done, 0 of them failed; 1 left' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='ended with 5 before any of them'):
        line = [sys.executable, '-c', 'raise SystemExit(5)']
        gpu.supervise([case], records, line, time.monotonic() + 200)


def test_the_time_begins_before_the_imports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = (
        'import time; t = time.monotonic(); import gpu; print(gpu.START - t, time.monotonic() - t)'
    )
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'benchmarks')])}
    line = [sys.executable, '-W', 'ignore', '-c', code]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=300, check=True)
    before, imported = map(float, done.stdout.split())
    assert before < imported / 4
    ends: list[float] = []
    monkeypatch.setattr(gpu, 'START', 1000.0)
    monkeypatch.setattr(gpu, 'supervise', lambda *args: ends.append(args[-1]))
    line = ['gpu.py', '--device', 'cpu', '--minutes', '2', '--out', str(tmp_path / 'gpu.json')]
    monkeypatch.setattr(sys, 'argv', line)
    gpu.main()
    assert ends == [1120.0]


def test_a_case_that_fails_is_noted(tmp_path: Path) -> None:
    ran: list[str] = []

    def good(settings: Settings) -> dict[str, Any]:
        ran.append(settings.device)
        return dict(ms=2.0)

    def bad(settings: Settings) -> dict[str, Any]:
        raise torch.cuda.OutOfMemoryError('Tried to allocate 20 GiB')

    records = Records(tmp_path / 'gpu.json')
    cases = [Case('bad', bad), Case('good', good)]
    for _ in range(2):
        gpu.work(cases, TINY, records)
    assert ran == ['cpu']  # once
    assert 'Tried to allocate 20 GiB' in records.cases['bad']['error']
    assert Records(records.path).cases == records.cases


def test_results_of_another_card(tmp_path: Path) -> None:
    records = Records(tmp_path / 'gpu.json')
    records.tell(card='Card A')
    records.tell(card='Card A', torch='2.9')
    with pytest.raises(SystemExit, match='with card Card A, and this is Card B: choose another'):
        Records(records.path).tell(card='Card B')


@pytest.mark.parametrize('precision', sorted(gpu_cases.PRECISIONS))
def test_every_precision(precision: str) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    case = gpu_cases.layer_case('a', 'memory_efficient', precision)
    assert case.measure(TINY)['ms'] > 0
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize('part', gpu_cases.TILES)
def test_tiles(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, smallest, most = gpu_cases.TILES[part]
    module, found = importlib.import_module(module), []
    before = getattr(module, smallest), getattr(module, most)
    scores = torch.empty(12544, 8000, device='meta')

    def timed(run: Any, settings: Settings) -> dict[str, float]:
        if part == 'layer':
            found.append(len(module._groups(scores)[0][1]))
        else:
            found.append(len(module._chunks(scores)))
        return dict(ms=1.0)

    monkeypatch.setattr(gpu_cases, 'timed', timed)
    assert gpu_cases.tile_case('b', part, 8, 'tf32').measure(TINY) == dict(ms=1.0)
    assert found == [8]
    assert (getattr(module, smallest), getattr(module, most)) == before


@pytest.mark.slow
@pytest.mark.parametrize('case', all_cases(TINY), ids=lambda case: case.name)
def test_every_case(case: Case) -> None:
    if case.name.endswith('graph'):
        with pytest.raises(RuntimeError, match='need a GPU'):
            case.measure(TINY)
    else:
        assert case.measure(TINY)


def test_tests_that_run_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    name = 'tests/cuda/test_x.py::test'
    text = f'{name}_a[cuda] PASSED [ 3%]\n{name}_b[cuda] FAILED [ 6%]\n{name}_c'.encode()

    def run(line: list[str], timeout: float, **options: Any) -> None:
        raise subprocess.TimeoutExpired(
            line, timeout, output=text + b'tests/cuda/test_x.py::test_c'
        )

    monkeypatch.setattr(subprocess, 'run', run)
    found = gpu_cases.cuda_tests(TINY)
    assert (found['passed'], found['failed']) == (1, 1)
    assert found['failures'] == ['tests/cuda/test_x.py::test_b[cuda] FAILED']
    assert found['report'].endswith('test_c') and found['unfinished'] == 1


def test_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(sys, 'argv', ['gpu.py', '--only', 'fitting', '--list'])
    gpu.main()
    assert capsys.readouterr().out == 'fitting cifar\nfitting imagenet\n'
    monkeypatch.setattr(sys, 'argv', ['gpu.py', '--out', str(tmp_path / 'gpu.json')])
    with pytest.raises(SystemExit, match='2'):
        gpu.main()
    assert 'there is no GPU that torch can use' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_failed_cases_are_repeated_on_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    records = Records(tmp_path / 'gpu.json')
    records.end('fitting cifar', error='out of memory')
    records.end('fitting imagenet', seconds=2.0)
    left: list[str] = []

    def supervise(cases: list[Case], records: Records, line: list[str], end: float) -> None:
        left.extend(case.name for case in cases if case.name not in records.cases)

    monkeypatch.setattr(gpu, 'supervise', supervise)
    line = ['gpu.py', '--device', 'cpu', '--only', 'fitting', '--out', str(records.path)]
    for more in ([], ['--again']):
        monkeypatch.setattr(sys, 'argv', [*line, *more])
        gpu.main()
    assert left == ['fitting cifar']
