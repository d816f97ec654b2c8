"""Errors as the commands show them."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from mmkdlayer.engine.launch import explain_lost_process
from mmkdlayer.errors import KDLayerError

from .building import explain_build_error

# torch puts this and a traceback before the message of an error in a data loader's worker.
WORKER_PREFIX = re.compile(r'^Caught (\w+) in DataLoader worker .*\n(?:\w+\.)*\1: ', re.S)
# The registry puts this before the message of an error inside a class that it builds.
BUILD_PREFIX = re.compile(r'^(class `[^`]*` in \S+?: )+')


@contextmanager
def report_errors(debug: bool = False) -> Iterator[None]:
    """End the process with one paragraph instead of a traceback, where the user can fix it.

    Args:
        debug: Show the traceback too.
    """
    try:
        yield
    except Exception as error:
        text = _explain(error)
        if text is None:
            raise
        if debug:
            traceback.print_exc()
        print(f'\nerror: {text}', file=sys.stderr, flush=True)
        sys.exit(2)


def _explain(error: Exception) -> str | None:
    """What to say about an error; None where the user can't fix it."""
    text = BUILD_PREFIX.sub('', WORKER_PREFIX.sub('', str(error)).rstrip())
    if isinstance(error, KDLayerError):
        return text
    if isinstance(error, URLError):
        return (
            f'a download failed ({text}). The config takes its teacher from the model zoo, or a '
            'data set that downloads itself: fetch it on a machine with a network, then add '
            '--cfg-options model.teacher_ckpt=FILE, or --data-root ROOT.'
        )
    if isinstance(error, KeyError):
        if 'mmrazor.' not in text or 'mmrazor' in sys.modules and sys.modules['mmrazor']:
            return explain_build_error(error)  # a name that no package has, or a fault of ours
        return (
            f'the config names a part of mmrazor, which can not be imported here ({text[:80]}...). '
            'Install it: pip install "mmkdlayer[distill]". An exported student needs none.'
        )
    if isinstance(error, OSError):
        return f'{type(error).__name__}: {text}'
    return explain_build_error(error) or explain_lost_process(error)
