"""Runs one task of a study in its folder: ``python one_task.py FOLDER``.

A process of its own, so that it is the same on this machine and in a job of Slurm. It starts small: the
libraries are loaded after training, to export and test what was trained. What it leaves:

- ``attempts.jsonl``: when it was started and ended;
- ``log.txt``: what the commands printed;
- ``result.json`` at the end, or ``failed.json`` with the reason; both appear whole.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[1]
#: Exit code of what was asked to end and can go on.
INTERRUPTED = 75
RESULT, FAILED, ATTEMPTS, LOG, TRAINED = (
    'result.json',
    'failed.json',
    'attempts.jsonl',
    'log.txt',
    'trained.json',
)


def main(folder: Path) -> int:
    """Run the task of a folder; its exit code."""
    sys.path[:] = [str(TOOLS), str(TOOLS.parent)] + [
        entry for entry in sys.path if Path(entry or '.').resolve() != TOOLS / 'studying'
    ]
    die_with_parent(signal.SIGTERM)
    task = json.loads((folder / 'task.json').read_text())
    out = folder.parents[task['name'].count('/')]
    for name in (FAILED, RESULT):
        (folder / name).unlink(missing_ok=True)
    close_attempts(folder)
    note(folder, started=time.time())
    code, reason = 1, 'an error of this command'
    try:
        code, reason = _run(task, folder, out)
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        raise
    finally:
        note(folder, ended=time.time(), code=code)
        if code not in (0, INTERRUPTED):
            write(folder / FAILED, dict(code=code, reason=reason, log=str(folder / LOG)))
    if code == 0:
        from studying.finishing import collect

        write(folder / RESULT, collect(task, folder, out))
    return code


def _run(task: dict[str, Any], folder: Path, out: Path) -> tuple[int, str]:
    tool, *words = [word.replace('{out}', str(out)) for word in task['command']]
    if not (folder / TRAINED).exists():
        code = call(folder, tool, words)
        if code:
            return code, f'{tool} ended with exit code {code}: {last_words(folder)}'
        write(folder / TRAINED, dict(ended=time.time()))
    if task['kind'] != 'train':
        return 0, ''
    with (folder / LOG).open('a') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    from studying.finishing import export_and_test

    try:
        export_and_test(task, folder, out, in_process)
    except SystemExit as stop:
        return int(stop.code or 1), f'exporting and testing failed: {last_words(folder)}'
    return 0, ''


def call(folder: Path, tool: str, words: list[str]) -> int:
    """Run one of the commands in a process; signals are passed on to it. Its exit code."""
    line = [sys.executable, str(TOOLS / tool), *words]
    with (folder / LOG).open('a') as log:
        log.write(f'\n$ {" ".join(line)}\n')
        log.flush()
        process = subprocess.Popen(
            line,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL),
        )
    numbers = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
    before = [
        signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM)) for number in numbers
    ]
    code = process.wait()
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)
    return INTERRUPTED if code in (INTERRUPTED, 130, -signal.SIGTERM) else code


def in_process(tool: str, words: list[str]) -> None:
    """Run one of the commands in this process.

    Raises:
        SystemExit: It failed.
    """
    print(f'\n$ {tool} {" ".join(words)}', flush=True)
    given, sys.argv = sys.argv, [tool, *words]
    try:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.argv = given


def die_with_parent(number: int) -> None:
    """Get a signal when the process that started this one ends, however it does (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG


def last_words(folder: Path) -> str:
    """The error in a log, or else its last lines."""
    lines = (folder / LOG).read_text(errors='replace').rstrip().splitlines()
    errors = [line for line in lines if line.startswith('error: ')]
    return (errors or [' / '.join(lines[-3:])])[-1][:1000]


def note(folder: Path, **what: Any) -> None:
    """Add a line to the attempts."""
    with (folder / ATTEMPTS).open('a') as file:
        file.write(json.dumps(what) + '\n')


def attempts(folder: Path) -> list[dict[str, Any]]:
    """The lines about the attempts; one that a killed process has half written is left out."""
    path, found = folder / ATTEMPTS, []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def close_attempts(folder: Path) -> None:
    """Give an attempt that was killed an end: when it has last written to its log."""
    lines = attempts(folder)
    if lines and 'started' in lines[-1]:
        log = folder / LOG
        last = log.stat().st_mtime if log.exists() else 0.0
        note(folder, ended=max(last, lines[-1]['started']), code=-int(signal.SIGKILL))


def write(path: Path, content: Any) -> None:
    """Write JSON so that it appears whole."""
    partial = path.with_name(f'.{path.name}.partial-{os.getpid()}')
    with partial.open('w') as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1]).resolve()))
