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
    except (KDLayerError, OSError) as error:
        if debug:
            traceback.print_exc()
        text = BUILD_PREFIX.sub('', str(error))
        if isinstance(error, URLError):
            text = (
                f'a download failed ({text}). The config takes its teacher from the model zoo, or a '
                'data set that downloads itself: fetch it on a machine with a network, then add '
                '--cfg-options model.teacher_ckpt=FILE, or --data-root ROOT.'
            )
        elif isinstance(error, OSError) and not isinstance(error, KDLayerError):
            text = f'{type(error).__name__}: {text}'
        _end_with(text)
    except RuntimeError as error:
        lost = explain_lost_process(error)
        if lost is None:
            raise
        if debug:
            traceback.print_exc()
        _end_with(lost)


def _end_with(text: str) -> None:
    print(f'\nerror: {text}', file=sys.stderr, flush=True)
    sys.exit(2)
