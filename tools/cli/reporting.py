"""Errors and Ctrl-C as the commands show them."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.error import URLError

from mmengine.config import Config

from mmkdlayer.engine.signals import INTERRUPTED, SIGNALS, WATCH
from mmkdlayer.errors import KDLayerError
from mmkdlayer.fitting.shortages import explain_shortage

from .building import explain_build_error
from .host_errors import WORKER_PREFIX, explain_host_error
from .launch import explain_lost_process
from .options import find_hook

# The registry puts this before the message of an error inside a class that it builds.
BUILD_PREFIX = re.compile(r'^(class `[^`]*` in \S+?: )+')


@contextmanager
def report_errors(debug: bool = False) -> Iterator[None]:
    """End the process with one paragraph instead of a traceback, where the user can fix it.

    Ctrl-C is a line and exit code 130, whatever the code that it comes upon makes of it. With
    ``debug`` the traceback is shown too.
    """
    try:
        yield
    except BaseException as error:
        if _comes_from_ctrl_c(error):
            code, text = INTERRUPTED, f'Ctrl-C: ended with exit code {INTERRUPTED}.'
        else:
            explained = _explain(error)
            if explained is None:
                raise
            code, text = 2, f'error: {explained}'
        if debug:
            traceback.print_exc()
        print(f'\n{text}', file=sys.stderr, flush=True)
        sys.exit(code)
    finally:
        WATCH.stop()


def watch_signals(cfg: Config) -> None:
    """Begin to watch for the signals of a config's PreemptionHook, or for the usual ones without."""
    hook = find_hook(cfg, 'PreemptionHook')
    if hook is None or isinstance(hook, Mapping):
        WATCH.start((hook or {}).get('signals', SIGNALS))


def _comes_from_ctrl_c(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, or what a library made of it (mmengine: "Failed to format")."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _explain(error: BaseException) -> str | None:
    """What to say about an error; None where the user can't fix it."""
    if not isinstance(error, Exception):
        return None
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
            return explain_build_error(error) or explain_host_error(error)
        return (
            f'the config names a part of mmrazor, which can not be imported here ({text[:80]}...). '
            'Install it: pip install "mmrazor>=1,<2" joblib. An exported student needs none.'
        )
    if isinstance(error, ImportError) and 'pip install' in text:  # of what the config asks for
        return f'the config asks for a package that is not there: {text}'
    if isinstance(error, OSError):
        return f'{type(error).__name__}: {text}'
    explanations = (explain_build_error, explain_lost_process, explain_host_error)
    return next(filter(None, (explain(error) for explain in explanations)), None)
