"""What the benchmarks share: interleaved timing, peak memory, tables and the circumstances."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch


def circumstances(packages: Iterable[str] = ('torch', 'mmengine', 'mmpretrain', 'mmrazor')) -> str:
    """One line with the command, the date, the hardware and the versions of a run."""
    processor = platform.processor() or platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        names = [
            line.split(':', 1)[1].strip()
            for line in Path('/proc/cpuinfo').read_text().splitlines()
            if line.startswith('model name')
        ]
        processor = names[0] if names else processor
    if torch.cuda.is_available():
        processor += f', {torch.cuda.get_device_name()}'
    versions = []
    for name in packages:
        try:
            versions.append(f'{name} {importlib.metadata.version(name)}')
        except importlib.metadata.PackageNotFoundError:
            versions.append(f'no {name}')
    command = ' '.join(['python', os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    return (
        f'`{command}`, {datetime.date.today()}, {processor}, {torch.get_num_threads()} threads, '
        f'Python {platform.python_version()}, {", ".join(versions)}'
    )


def synchronize(device: torch.device | str) -> None:
    """Wait for what a device still has to do."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize()


def interleaved(
    cases: dict[str, Callable[[], Any]],
    repeats: int = 7,
    device: torch.device | str = 'cpu',
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each case; the cases take turns, so that a slow minute slows all of them.

    With ``time.process_time`` as the clock of a CPU, other processes' turns are left out.
    """
    for _ in range(warmup):
        for case in cases.values():
            case()
    cuda = torch.device(device).type == 'cuda'
    timed = _timed_on_cuda if cuda else functools.partial(_timed, clock=clock)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            seconds[name].append(timed(case))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _timed(case: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    case()
    return clock() - start


def _timed_on_cuda(case: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    case()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def peak_allocated(case: Callable[[], Any], device: torch.device | str = 'cpu') -> int:
    """Most bytes of tensors that were allocated at a time while a case ran, above those before it.

    On a CPU they are counted from the profiler's record of every allocation.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        case()
    events = profile.kineto_results.events()
    begin = 'start_ns' if hasattr(events[0], 'start_ns') else 'start_us'
    now = peak = 0
    for event in sorted(events, key=lambda event: getattr(event, begin)()):
        if event.name() == '[memory]':
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def kernels(case: Callable[[], Any]) -> tuple[int, float]:
    """Kernels that a case starts on a GPU, copies and fills included, and milliseconds they take."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        case()
        torch.cuda.synchronize()
    on_gpu = [
        event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    return len(on_gpu), sum(event.time_range.elapsed_us() for event in on_gpu) / 1000


def resident(field: str = 'VmRSS') -> int:
    """Bytes that this process has in memory now, or with ``VmHWM`` at most so far (Linux)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{field}:'):
            return int(line.split()[1]) * 1024
    raise OSError(f'/proc/self/status has no {field}')


def restart_resident_peak() -> int:
    """Let ``VmHWM`` begin again at what is in memory now, and return that."""
    Path('/proc/self/clear_refs').write_text('5')
    return resident()


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of GitHub's markdown."""
    lines = ['| ' + ' | '.join(header) + ' |', '|' + '---|' * len(header)]
    lines += ['| ' + ' | '.join(str(cell) for cell in row) + ' |' for row in rows]
    return '\n'.join(lines)
