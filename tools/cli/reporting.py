"""Errors and Ctrl-C as the commands show them."""

from __future__ import annotations

import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError

from mmengine.config import Config

from mmkdlayer.engine.launch import explain_lost_process
from mmkdlayer.engine.signals import INTERRUPTED, SIGNALS, WATCH
from mmkdlayer.errors import KDLayerError
from mmkdlayer.fitting.shortages import explain_shortage

from .building import explain_build_error
from .options import find_hook

# torch puts this and a traceback before the message of an error in a data loader's worker.
WORKER_PREFIX = re.compile(r'^Caught (\w+) in DataLoader worker .*\n(?:\w+\.)*\1: ', re.S)
# The registry puts this before the message of an error inside a class that it builds.
BUILD_PREFIX = re.compile(r'^(class `[^`]*` in \S+?: )+')


@contextmanager
def report_errors(debug: bool = False) -> Iterator[None]:
    """End the process with one paragraph instead of a traceback, where the user can fix it.

    Ctrl-C is a line and exit code 130, whatever the code that it comes upon makes of it.

    Args:
        debug: Show the traceback too.
    """
    try:
        with _noting_ctrl_c() as pressed:
            yield
    except BaseException as error:
        if pressed or isinstance(error, KeyboardInterrupt):
            if debug:
                traceback.print_exc()
            print(f'\nCtrl-C: ended with exit code {INTERRUPTED}.', file=sys.stderr, flush=True)
            sys.exit(INTERRUPTED)
        if not isinstance(error, Exception):
            raise
        text = _explain(error)
        if text is None:
            raise
        if debug:
            traceback.print_exc()
        print(f'\nerror: {text}', file=sys.stderr, flush=True)
        sys.exit(2)


def watch_signals(cfg: Config) -> None:
    """Begin to watch for the signals of a config's PreemptionHook, or for the usual ones without."""
    hook = find_hook(cfg, 'PreemptionHook')
    if hook is None or isinstance(hook, Mapping):
        WATCH.start((hook or {}).get('signals', SIGNALS))


@contextmanager
def _noting_ctrl_c() -> Iterator[list[int]]:
    """Note Ctrl-C, which libraries may turn into errors of their own (mmengine: "Failed to format")."""
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT) == signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        WATCH.stop()  # begun meanwhile: it would bring this handler back
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _explain(error: Exception) -> str | None:
    """What to say about an error; None where the user can't fix it."""
    text = BUILD_PREFIX.sub('', WORKER_PREFIX.sub('', str(error)).rstrip())
    if isinstance(error, KDLayerError):
        return text
    if shortage := explain_shortage(error):
        return str(shortage)
    if isinstance(error, URLError):
        return (
            f'a download failed ({text}). The config takes weights from the model zoo, or a data '
            'set that downloads itself: fetch it on a machine with a network, then add --cfg-options '
            "model.teacher_ckpt=FILE (for a teacher's own training "
            'model.backbone.init_cfg.checkpoint=FILE), or --data-root ROOT.'
        )
    if isinstance(error, KeyError):
        if 'mmrazor.' not in text or 'mmrazor' in sys.modules and sys.modules['mmrazor']:
            return explain_build_error(error)  # a name that no package has, or a fault of ours
        return (
            f'the config names a part of mmrazor, which can not be imported here ({text[:80]}...). '
            'Install it: pip install "mmrazor>=1,<2" joblib. An exported student needs none.'
        )
    if isinstance(error, OSError):
        return f'{type(error).__name__}: {text}'
    return explain_build_error(error) or explain_lost_process(error)
