"""Takes part in the import of one module, when that import comes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any, Callable


def install_finder(finder: MetaPathFinder) -> None:
    """Let Python ask this finder first, unless an equal one is there already."""
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


def find_elsewhere(finder: MetaPathFinder, name: str, path: Any) -> Iterator[ModuleSpec]:
    """Yield a module's spec from each of Python's other finders that has one."""
    for other in list(sys.meta_path):
        if other != finder and hasattr(other, 'find_spec'):
            spec = other.find_spec(name, path)
            if spec is not None:
                yield spec


@dataclass(frozen=True)
class RunOnImport(MetaPathFinder):
    """Lets a function run the code of one module when that is imported; imports nothing itself.

    Attributes:
        name: The module's full name. Every other import passes by.
        execute: Called with the new, empty module and ``run``, the function of its loader that runs
            its code in it.
    """

    name: str
    execute: Callable[..., None]

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the real spec, whose loader calls ``execute``, or None for any other module."""
        if fullname != self.name:
            return None
        spec = next(find_elsewhere(self, fullname, path), None)
        if spec is not None and hasattr(spec.loader, 'exec_module'):
            # A copy: a finder may give all modules the same loader.
            loader: Any = copy.copy(spec.loader)
            loader.exec_module = partial(self.execute, run=loader.exec_module)
            spec.loader = loader
        return spec
