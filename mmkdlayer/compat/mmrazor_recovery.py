"""Clear up after a mmrazor that was imported, and failed, before mmkdlayer.

A failed ``import mmrazor.models`` leaves the submodules that had finished in ``sys.modules`` (with
placeholders where they looked for mmcls) and their classes in the registries, so that a second try
ends in "already registered". Both are removed, and the next import starts afresh. Where mmrazor was
imported in full, it stays as it is, and only a warning tells of placeholders.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator

import mmengine.registry
from mmengine.registry import Registry

# Finished, free of placeholders, and perhaps in the user's hands already (registered modules).
_KEPT = ('mmrazor.registry', 'mmrazor.version')


def recover_mmrazor() -> None:
    """Make mmrazor importable again if an earlier import of it failed halfway; else do nothing."""
    submodules = [name for name in sys.modules if name.startswith('mmrazor.')]
    # A submodule outlives its package where that failed: Python drops only what failed.
    if any(name.rpartition('.')[0] not in sys.modules for name in submodules):
        _unregister_classes()
        for name in submodules:
            if not name.startswith(_KEPT):
                module = sys.modules.pop(name)
                parent, _, child = name.rpartition('.')
                if getattr(sys.modules.get(parent), child, None) is module:
                    delattr(sys.modules[parent], child)
    elif submodules and importlib.util.find_spec('mmcls') is not None:
        _warn_about_placeholders(submodules)


def _unregister_classes() -> None:
    for registry in _registries():
        for name, registered in list(registry.module_dict.items()):
            root = str(getattr(registered, '__module__', '')).split('.')[0]
            # mmrazor registers torch's own observers and fake quantisers in its scope.
            if root == 'mmrazor' or (root == 'torch' and registry.scope == 'mmrazor'):
                del registry.module_dict[name]
        if registry.scope == 'mmrazor':
            registry._imported = False


def _registries() -> Iterator[Registry]:
    for root in vars(mmengine.registry).values():
        if isinstance(root, Registry):
            yield root
            yield from root.children.values()


def _warn_about_placeholders(submodules: list[str]) -> None:
    affected = [n for n in submodules if any(map(_is_placeholder, vars(sys.modules[n]).values()))]
    if affected:
        warnings.warn(
            'mmrazor was imported before mmkdlayer, while no module was called mmcls. Its modules '
            f'that use mmcls ({", ".join(sorted(affected))}) hold placeholders and will say that '
            'mmcls is not installed. If you need them, import mmkdlayer first: the first line of '
            "the script, or the first entry of the config's custom_imports.",
            stacklevel=4,
        )


def _is_placeholder(value: object) -> bool:
    """Tell whether mmrazor put this in the place of something from mmcls."""
    if getattr(value, '__module__', None) != 'mmrazor.utils.placeholder':
        return False
    closure = getattr(vars(value).get('__init__'), '__closure__', None) or ()
    return any(cell.cell_contents == 'mmcls' for cell in closure)
