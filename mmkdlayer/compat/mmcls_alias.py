"""``mmcls``, the old name of mmpretrain, where no real mmcls is installed.

mmrazor imports mmcls and its configs inherit ``mmcls::...``; mmpretrain is the same code under its
new name. Every ``mmcls`` module becomes the *same* module object as its mmpretrain counterpart, so
nothing is executed or registered twice.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Optional

from mmengine.registry import MODELS, Registry

from .import_hooks import find_specs

OLD_NAME = 'mmcls'
NEW_NAME = 'mmpretrain'

RENAMED_CLASSES = {
    'ClsDataSample': 'DataSample',
    'ClsVisualizer': 'UniversalVisualizer',
    'PackClsInputs': 'PackInputs',
}


def install_mmcls_alias() -> None:
    """Let ``mmcls`` resolve to mmpretrain from now on, unless a real mmcls is there."""
    if not any(isinstance(finder, MMClsAliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MMClsAliasFinder())


class MMClsAliasFinder(MetaPathFinder):
    """Finds ``mmcls`` and its submodules in mmpretrain.

    It stands first in ``sys.meta_path``: the usual finder would load ``mmcls.models`` a second time
    from mmpretrain's own directory. It steps aside as soon as there is a real mmcls.
    """

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[ModuleType] = None,
    ) -> Optional[ModuleSpec]:
        """Return the spec of an alias, or None for any other module."""
        package, _, rest = fullname.partition('.')
        if package != OLD_NAME or _is_real(submodule=bool(rest)):
            return None
        new_name = NEW_NAME + fullname[len(OLD_NAME) :]
        found = find_spec(new_name)
        if found is None:
            return None
        spec = ModuleSpec(fullname, _AliasLoader(new_name), origin=found.origin)
        # mmengine reads the package's directory (its configs) from the spec.
        spec.submodule_search_locations = found.submodule_search_locations
        return spec


def _is_real(submodule: bool) -> bool:
    """Tell whether mmcls, or what a submodule of it is imported from, is a package of its own."""
    if submodule:
        return sys.modules.get(OLD_NAME) is not sys.modules.get(NEW_NAME)
    # Without an origin it is just a directory of that name somewhere on the path.
    specs = find_specs(OLD_NAME, None, skip=MMClsAliasFinder)
    return any(spec.origin is not None for spec in specs)


class _AliasLoader(Loader):
    """Puts the module ``target`` into ``sys.modules`` under its old name."""

    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        # None: a throwaway module. Handing the target out here would overwrite its __spec__.
        return None

    def exec_module(self, module: ModuleType) -> None:
        target = importlib.import_module(self.target)
        _add_old_class_names(target)
        if self.target == f'{NEW_NAME}.registry':
            _add_old_scope(target)
        if self.target == f'{NEW_NAME}.models':
            _share_default_preprocessor(target)
        sys.modules[module.__name__] = target


def _add_old_class_names(module: ModuleType) -> None:
    for old, new in RENAMED_CLASSES.items():
        if hasattr(module, new) and not hasattr(module, old):
            setattr(module, old, getattr(module, new))


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


def _share_default_preprocessor(models: ModuleType) -> None:
    """Let mmpretrain's classifiers find their default data preprocessor in any scope.

    They ask for it by its name alone, where mmcls asked with its scope: in mmrazor's scope a
    ``mmcls.ImageClassifier`` could not be built. What no scope has is looked up in mmengine's registry.
    """
    preprocessor = models.utils.ClsDataPreprocessor
    MODELS._module_dict.setdefault('ClsDataPreprocessor', preprocessor)
