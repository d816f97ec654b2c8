"""What training with KD layers costs on a GPU, in one command that ends within its time.

    bash tools/gpu_wheels.sh --install         # where there is no network: see that script
    python benchmarks/gpu.py                   # results in gpu.json and gpu.md; 9 minutes at most
    python benchmarks/gpu.py                   # again, until none is left: goes on

First the tests that need a GPU, then steps of both pairs, fitting, and layers alone; see gpu_cases.py.
A case that fails is noted with its error, and the others go on. Cases run in a process of their own,
which is started anew after a case that took the GPU's context with it, or that was given up. Weights,
images and tables are random: no data set is needed. ``--device cpu --tiny`` is a dry run.
"""

from __future__ import annotations

import time

#: Of the time that the command has, its imports take some, many seconds of it on a cold machine.
START = time.monotonic()

import argparse
import gc
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from building import ROOT
from gpu_cases import Case, Settings, all_cases
from measuring import circumstances, markdown
from records import Records

#: Exit code of the process that runs the cases when the GPU can't be used by it any more.
CONTEXT_LOST = 3
#: Versions that are told.
PACKAGES = ('torch', 'triton', 'mmengine', 'mmpretrain', 'mmrazor')
#: Columns of the table: key, title and format.
COLUMNS = (
    ('ms', 'ms', '.1f'),
    ('images_per_s', 'images/s', '.0f'),
    ('peak_mib', 'peak MiB', '.0f'),
    ('kernels', 'kernels', 'd'),
    ('busy_ms', 'GPU busy, ms', '.1f'),
)


def main() -> None:
    """Supervise the cases, or run them where ``--worker`` says so."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', default='gpu.json', help='the results; the table is beside it')
    parser.add_argument(
        '--minutes', type=float, default=9, help='ends within this time, imports included'
    )
    parser.add_argument('--only', default='', help='cases with this regular expression in the name')
    parser.add_argument('--again', action='store_true', help='repeat the cases that failed')
    parser.add_argument('--list', action='store_true', help='name the cases, and end')
    parser.add_argument('--device', default='cuda', choices=('cuda', 'cpu'))
    parser.add_argument('--tiny', action='store_true', help='as small as it gets: a dry run')
    parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = Settings(options.device, options.tiny)
    cases = [case for case in all_cases(settings) if re.search(options.only, case.name)]
    if options.list:
        print(*(case.name for case in cases), sep='\n')
        return
    if options.device == 'cuda' and not torch.cuda.is_available():
        parser.error('there is no GPU that torch can use; --device cpu --tiny is a dry run')
    records = Records(Path(options.out))
    if options.worker:
        sys.argv.remove('--worker')  # results name the command
        work(cases, settings, records)
        return
    if options.again:
        for name in [name for name, figures in records.cases.items() if 'error' in figures]:
            del records.cases[name]
        records.write()
    line = [sys.executable, *sys.argv, '--worker']
    supervise(cases, records, line, START + 60 * options.minutes)


def supervise(cases: list[Case], records: Records, line: list[str], end: float) -> None:
    """Start processes that run the cases, and end them at the end or where a case takes too long.

    Args:
        cases: All of them; those that are done are left out.
        records: Their results, written by those processes.
        line: The command that starts one.
        end: When to end, in seconds of :func:`time.monotonic`.
    """
    limits = {case.name: case.limit for case in cases}
    while time.monotonic() < end and any(name not in records.cases for name in limits):
        done = len(records.cases)
        records.begin(None)
        worker = subprocess.Popen(line, start_new_session=True)  # its tests are its own processes
        try:
            in_time = wait(worker, records, limits, end)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            code = worker.wait()
        records.read()
        if records.running is not None and in_time:
            reason = (
                f'ended with {code}' if code != -signal.SIGKILL else 'took longer than its limit'
            )
            records.end(records.running, error=f'the process {reason}')
        elif in_time and len(records.cases) == done:
            sys.exit(f'The process that runs the cases ended with {code} before any of them.')
        write_table(records)
    left = sum(name not in records.cases for name in limits)
    failed = sum('error' in records.cases.get(name, {}) for name in limits)
    print(f'{len(limits) - left} of {len(limits)} cases done, {failed} of them failed', end='')
    print(f'; {left} left: run the command again.' if left else '.')


def wait(worker: subprocess.Popen, records: Records, limits: dict[str, float], end: float) -> bool:
    """Wait for a process, to the end or a case's limit at most; whether it is before the end."""
    began, running = time.monotonic(), None
    while worker.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
        records.read()
        if records.running != running:
            began, running = time.monotonic(), records.running
        if running is not None and time.monotonic() - began > limits[running]:
            break
    return time.monotonic() < end


def work(cases: Iterable[Case], settings: Settings, records: Records) -> None:
    """Run the cases that are not done yet, one after the other."""
    records.tell(**surroundings(settings))
    records.ran(circumstances(PACKAGES))
    for case in cases:
        if case.name in records.cases:
            continue
        records.begin(case.name)
        start = time.monotonic()
        try:
            figures = case.measure(settings)
        except Exception as error:  # noted, and the others go on
            figures = dict(error=f'{type(error).__name__}: {error}'[:3000])
            # No traceback may hold on to what the case has allocated.
            error.__traceback__ = None
        records.end(case.name, **figures)
        shown = figures.get('error', figures.get('failures') or 'done')
        seconds = time.monotonic() - start
        print(f'{case.name}: {str(shown).splitlines()[0]} ({seconds:.0f} s)', flush=True)
        gc.collect()
        if 'torch._dynamo' in sys.modules:
            torch._dynamo.reset()
        if settings.device == 'cuda':
            try:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
            except RuntimeError:
                sys.exit(CONTEXT_LOST)


def surroundings(settings: Settings) -> dict[str, str]:
    """What figures depend on: the card, its driver and memory, torch, and this package's code."""
    code = hashlib.sha256()
    for file in sorted((ROOT / 'mmkdlayer').rglob('*.py')):
        code.update(file.read_bytes())
    found = dict(torch=torch.__version__, code=code.hexdigest()[:12])
    if settings.device == 'cpu':
        return dict(found, card='none, a dry run on a CPU')
    card = torch.cuda.get_device_properties(0)
    query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        driver = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        driver = []
    memory = f'{card.total_memory / 2**30:.0f} GiB'
    about = f'CUDA {torch.version.cuda}, driver {driver[0] if driver else "not known"}'
    return dict(found, card=f'{card.name}, {memory}, {about}')


def write_table(records: Records) -> None:
    """Write the results as tables of GitHub's markdown, beside the JSON file."""
    where = records.where
    lines = [f'{where.get("card")}; code {where.get("code")}; {"; ".join(records.runs)}', '']
    figures, others = [], []
    for name, found in records.cases.items():
        if 'ms' in found:
            figures.append([name, *(shown(found.get(key), form) for key, _, form in COLUMNS)])
        elif 'error' in found:
            others.append((name, found['error'].replace('|', '\\|').splitlines()[0][:200]))
        else:
            text = ', '.join(f'{key} {shown(value, ".3g")}' for key, value in found.items())
            others.append((name, text.replace('|', '\\|')[:600]))
    if figures:
        lines += [markdown(('case', *(title for _, title, _ in COLUMNS)), figures), '']
    if others:
        lines += [markdown(('case', 'result'), others), '']
    records.path.with_suffix('.md').write_text('\n'.join(lines))


def shown(value: Any, form: str) -> str:
    """A figure as a cell of a table; nothing where there is none."""
    if value is None or value == '':
        return ''
    return format(value, form) if isinstance(value, (int, float)) else str(value)


if __name__ == '__main__':
    main()
