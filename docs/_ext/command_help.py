"""The directive ``command-help``: the ``--help`` of one of this project's commands.

::

    ```{command-help} tools/train.py
    ```
"""

from __future__ import annotations

from docutils import nodes
from help_text import ROOT, command_help
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


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
