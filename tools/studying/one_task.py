"""Runs one task of a study: ``python one_task.py FOLDER``, or ``python one_task.py BATCH NUMBER``.

A process of its own, the same on this machine and in a job of Slurm; training, exporting and testing
share it, so that the libraries are loaded once. What it leaves:

- ``attempts.jsonl``: when it was started and ended;
- ``log.txt``: what the commands printed;
- ``trained.json`` where the training itself, or the fitting, has ended;
- ``result.json`` at the end, or ``failed.json`` with the reason; they appear whole.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[1]
#: Exit codes of what was asked to end and can continue.
INTERRUPTED = (75, 130, -int(signal.SIGTERM))
#: Variable with the number of the process that starts this one, if it is to end with that.
PARENT = 'MMKDLAYER_STUDY_PROCESS'
RESULT, FAILED, ATTEMPTS, LOG, TRAINED = (
    'result.json',
    'failed.json',
    'attempts.jsonl',
    'log.txt',
    'trained.json',
)


def main(folder: Path) -> int:
    """Run the task of a folder; its exit code."""
    die_with_parent()
    for number in (signal.SIGTERM, signal.SIGUSR1):  # before and after training, which saves first
        signal.signal(number, lambda *_: os._exit(75))
    sys.path[:] = [str(TOOLS), str(TOOLS.parent)] + [
        entry for entry in sys.path if Path(entry or '.').resolve() != TOOLS / 'studying'
    ]
    with (folder / LOG).open('a') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    task = json.loads((folder / 'task.json').read_text())
    out = folder.parents[task['name'].count('/')]
    (folder / FAILED).unlink(missing_ok=True)
    close_attempts(folder)
    note(folder, started=time.time())
    code, reason = 1, ''
    try:
        run(task, folder, out)
        from studying.finishing import collect

        write(folder / RESULT, collect(task, folder, out))
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:
        reason = f'{type(error).__name__}: {error}'
        traceback.print_exc()
    note(folder, ended=time.time(), code=code)
    if code not in (0, *INTERRUPTED):
        write(folder / FAILED, dict(code=code, reason=reason or last_words(folder)))
    return code


def run(task: dict[str, Any], folder: Path, out: Path) -> None:
    """Train, fit or store; then export and test what was trained.

    Raises:
        SystemExit: A command has failed, or was asked to end.
    """
    if not (folder / TRAINED).exists():
        tool, *words = (word.replace('{out}', str(out)) for word in task['command'])
        call(tool, words)
        gc.collect()
        write(folder / TRAINED, dict(ended=time.time()))
    if task['kind'] == 'train':
        from studying.finishing import export_and_test

        export_and_test(task, folder, out, call)


def call(tool: str, words: list[str]) -> None:
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


def die_with_parent() -> None:
    """Get SIGTERM when the process that started this one ends, however it does (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG
        if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):  # it has ended before
            sys.exit(INTERRUPTED[0])


def last_words(folder: Path) -> str:
    """The error in a log, or else its last lines."""
    lines = (folder / LOG).read_text(errors='replace').rstrip().splitlines()
    errors = [line[len('error: ') :] for line in lines if line.startswith('error: ')]
    return (errors or [' / '.join(lines[-3:])])[-1][:1000]


def note(folder: Path, **what: Any) -> None:
    """Add a line to the attempts."""
    path = folder / ATTEMPTS
    before = path.read_bytes() if path.exists() else b''
    is_cut = bool(before) and not before.endswith(b'\n')  # by a kill
    with path.open('a') as file:
        file.write('\n' * is_cut + json.dumps(what) + '\n')


def attempts(folder: Path) -> list[dict[str, Any]]:
    """The lines about the attempts; one that a killed process has half written is left out."""
    path, found = folder / ATTEMPTS, []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def seconds_of_attempts(folder: Path) -> list[float]:
    """How long each attempt took, so far."""
    found, begin = [], None
    for line in [*attempts(folder), dict(ended=time.time())]:
        if 'ended' in line and begin is not None:
            found.append(line['ended'] - begin)
        begin = line.get('started')
    return found


def close_attempts(folder: Path) -> None:
    """Give an attempt that was killed an end: when it has last written to its log."""
    lines = attempts(folder)
    if lines and 'started' in lines[-1]:
        last = (folder / LOG).stat().st_mtime
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
    place = Path(sys.argv[1]).resolve()
    if len(sys.argv) > 2:  # a job of an array
        place = place.parents[1] / json.loads(place.read_text())[int(sys.argv[2])]
    sys.exit(main(place))
