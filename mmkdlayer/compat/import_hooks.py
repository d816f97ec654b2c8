"""Takes part in the import of one module, when that import comes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Optional


def run_on_import(name: str, execute: Callable[..., None]) -> None:
    """Let ``execute`` run the module of this name when it is imported; nothing is imported here.

    Args:
        name: The module's full name. Every other import passes by.
        execute: Called with the new, empty module and ``run``, the function of its loader that runs
            its code in it.
    """
    if not any(isinstance(finder, _Watch) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch(name, execute))


def find_specs(
    name: str, path: Optional[Sequence[str]], skip: type[MetaPathFinder]
) -> Iterator[ModuleSpec]:
    """Yield a module's spec from each of Python's finders that has one, but for those of one class."""
    for finder in list(sys.meta_path):
        if not isinstance(finder, skip) and hasattr(finder, 'find_spec'):
            spec = finder.find_spec(name, path)
            if spec is not None:
                yield spec


class _Watch(MetaPathFinder):
    def __init__(self, name: str, execute: Callable[..., None]) -> None:
        self.name = name
        self.execute = execute

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[ModuleType] = None,
    ) -> Optional[ModuleSpec]:
        """Return the real spec, whose loader calls ``execute``, or None for any other module."""
        if fullname != self.name:
            return None
        spec = next(find_specs(fullname, path, skip=_Watch), None)
        if spec is not None and hasattr(spec.loader, 'exec_module'):
            # A copy: a finder may give all modules the same loader.
            loader: Any = copy.copy(spec.loader)
            loader.exec_module = partial(self.execute, run=loader.exec_module)
            spec.loader = loader
        return spec
