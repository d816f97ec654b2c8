"""What a command prints as its help; apart from the directive, so that the tests need no Sphinx."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]


def command_help(command: str) -> str:
    """What ``python COMMAND --help`` prints, in this process: the host libraries are loaded once."""
    printed = io.StringIO()
    environment = dict(COLUMNS='88', NO_COLOR='1')
    with (
        mock.patch.object(sys, 'argv', [command, '--help']),
        mock.patch.object(sys, 'path', [str((ROOT / command).parent), *sys.path]),
        mock.patch.dict('os.environ', environment),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_path(str(ROOT / command), run_name='__main__')
    return printed.getvalue()
