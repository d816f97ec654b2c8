"""The directive ``command-help``: the ``--help`` of one of this project's commands.

::

    ```{command-help} tools/train.py
    ```
"""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

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


class CommandHelp(SphinxDirective):
    """Shows the help of the command that is its argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return one literal block."""
        command = self.arguments[0]
        self.env.note_dependency(str(ROOT / command))
        text = command_help(command)
        if not text.startswith('usage:'):
            raise self.error(f'python {command} --help printed no usage')
        return [nodes.literal_block(text, text, language='text')]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_directive('command-help', CommandHelp)
    return dict(parallel_read_safe=False)
