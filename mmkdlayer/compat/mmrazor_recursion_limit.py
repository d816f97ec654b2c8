"""Python's recursion limit, which two modules of mmrazor raise to 2**20 for the whole process.

That is beyond what the stack holds: instead of a RecursionError, endless or hostile nesting (in JSON,
say) would end the process with a segmentation fault.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Callable

#: The modules that raise it, to :data:`RAISED`.
RECURSIVE = (
    'mmrazor.structures.graph.channel_flow',
    'mmrazor.models.task_modules.tracer.fx_tracer',
)
RAISED = 2**20
PYTHONS_OWN = 1000


def run_with_limit_kept(module: ModuleType, run: Callable[[ModuleType], None]) -> None:
    """Run the module's code, then set the limit back to what it was."""
    before = sys.getrecursionlimit()
    try:
        run(module)
    finally:
        sys.setrecursionlimit(before)


def lower_raised_limit() -> None:
    """Set the limit to Python's own where mmrazor was imported before and has raised it."""
    if sys.getrecursionlimit() == RAISED and any(name in sys.modules for name in RECURSIVE):
        sys.setrecursionlimit(PYTHONS_OWN)
