"""Watches for the import of one module, to wrap the loader that runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional


class WrappedLoader(Loader):
    """A loader that hands everything to the real one; subclasses add to ``exec_module``."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        # Only asked for what Loader doesn't have: get_source, get_resource_reader and so on.
        return getattr(self.real, name)

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Create the module as the real loader does."""
        module: Optional[ModuleType] = self.real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with its real loader, which is also the one that it remembers."""
        module.__loader__ = self.real
        if module.__spec__ is not None:
            module.__spec__.loader = self.real
        self.real.exec_module(module)


class LoaderWrappingFinder(MetaPathFinder):
    """Wraps the loader of one module; every other import passes it by.

    Subclasses name the module and the loader.
    """

    module: str
    loader: type[WrappedLoader]

    @classmethod
    def install(cls) -> None:
        """Watch from now on; nothing is imported here."""
        if not any(isinstance(finder, cls) for finder in sys.meta_path):
            sys.meta_path.insert(0, cls())

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[ModuleType] = None,
    ) -> Optional[ModuleSpec]:
        """Return the real spec with the loader wrapped, or None for any other module."""
        if fullname != self.module:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, type(self)) or not hasattr(finder, 'find_spec'):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, 'exec_module'):
                    spec.loader = self.loader(spec.loader)
                return spec
        return None
