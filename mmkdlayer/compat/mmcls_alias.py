"""``mmcls``, the old name of mmpretrain, where no real mmcls is installed.

mmrazor imports mmcls and its configs inherit ``mmcls::...``; mmpretrain is the same code under its
new name. Every ``mmcls`` module becomes the *same* module object as its mmpretrain counterpart, so
nothing is executed or registered twice.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mmengine.registry import MODELS, Registry

from .import_hooks import find_elsewhere

OLD_NAME = 'mmcls'
NEW_NAME = 'mmpretrain'

RENAMED_CLASSES = {
    'ClsDataSample': 'DataSample',
    'ClsVisualizer': 'UniversalVisualizer',
    'PackClsInputs': 'PackInputs',
}


@dataclass(frozen=True)
class MMClsAlias(MetaPathFinder, Loader):
    """Finds ``mmcls`` and its submodules in mmpretrain, and puts them into ``sys.modules``.

    It stands first in ``sys.meta_path``: the usual finder would load ``mmcls.models`` a second time
    from mmpretrain's own directory. It steps aside as soon as there is a real mmcls.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of an alias, or None for any other module."""
        package, _, submodule = fullname.partition('.')
        if package != OLD_NAME:
            return None
        if submodule:
            is_real = sys.modules.get(OLD_NAME) is not sys.modules.get(NEW_NAME)
        else:
            # Without an origin it is just a directory of that name somewhere on the path.
            is_real = any(spec.origin for spec in find_elsewhere(self, OLD_NAME, None))
        found = None if is_real else find_spec(fullname.replace(OLD_NAME, NEW_NAME, 1))
        if found is None:
            return None
        spec = ModuleSpec(fullname, self, origin=found.origin)
        # mmengine reads the package's directory (its configs) from the spec.
        spec.submodule_search_locations = found.submodule_search_locations
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Replace ``module`` by its counterpart."""
        # In create_module the counterpart would have its __spec__ overwritten.
        counterpart = importlib.import_module(module.__name__.replace(OLD_NAME, NEW_NAME, 1))
        for old, new in RENAMED_CLASSES.items():
            if hasattr(counterpart, new) and not hasattr(counterpart, old):
                setattr(counterpart, old, getattr(counterpart, new))
        if counterpart.__name__ == f'{NEW_NAME}.registry':
            _add_old_scope(counterpart)
        if counterpart.__name__ == f'{NEW_NAME}.models':
            # mmpretrain's classifiers ask for their default preprocessor by its name alone, where
            # mmcls asked with its scope: in mmrazor's scope a ``mmcls.ImageClassifier`` could not
            # be built. What no scope has is looked up in mmengine's registry.
            preprocessor = counterpart.utils.ClsDataPreprocessor
            MODELS._module_dict.setdefault('ClsDataPreprocessor', preprocessor)
        sys.modules[module.__name__] = counterpart


class OldNamesRegistry(Registry):
    """A registry of mmpretrain seen from the scope ``mmcls``: same modules, old names too."""

    def get(self, key: str) -> Any:
        """Look ``key`` up under its new name; keys with a scope go their usual way."""
        return super().get(RENAMED_CLASSES.get(key, key))


def _add_old_scope(registry_module: ModuleType) -> None:
    """Give each of mmpretrain's registries a twin in the scope ``mmcls`` with the same modules."""
    for registry in list(vars(registry_module).values()):
        if not isinstance(registry, Registry) or registry.scope != NEW_NAME:
            continue
        # A registry of mmpretrain's own (of batch augments) has no parent: it has the twin itself.
        parent = registry if registry.parent is None else registry.parent
        if OLD_NAME in parent.children:
            continue
        twin = OldNamesRegistry(
            registry.name,
            build_func=registry.build_func,
            parent=parent,
            scope=OLD_NAME,
            locations=registry._locations,
        )
        twin._module_dict = registry._module_dict
        if parent is not registry:
            twin._children = registry._children
