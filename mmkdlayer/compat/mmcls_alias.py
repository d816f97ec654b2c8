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
    if not any(isinstance(finder, MMClsAlias) for finder in sys.meta_path):
        sys.meta_path.insert(0, MMClsAlias())


class MMClsAlias(MetaPathFinder, Loader):
    """Finds ``mmcls`` and its submodules in mmpretrain, and puts them into ``sys.modules``.

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
        found = find_spec(_new_name(fullname))
        if found is None:
            return None
        spec = ModuleSpec(fullname, self, origin=found.origin)
        # mmengine reads the package's directory (its configs) from the spec.
        spec.submodule_search_locations = found.submodule_search_locations
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Replace ``module`` by its counterpart."""
        # In create_module the counterpart would have its __spec__ overwritten.
        counterpart = importlib.import_module(_new_name(module.__name__))
        _add_old_class_names(counterpart)
        if counterpart.__name__ == f'{NEW_NAME}.registry':
            _add_old_scope(counterpart)
        if counterpart.__name__ == f'{NEW_NAME}.models':
            _share_default_preprocessor(counterpart)
        sys.modules[module.__name__] = counterpart


def _new_name(old_name: str) -> str:
    return NEW_NAME + old_name[len(OLD_NAME) :]


def _is_real(submodule: bool) -> bool:
    """Tell whether mmcls, or what a submodule of it is imported from, is a package of its own."""
    if submodule:
        return sys.modules.get(OLD_NAME) is not sys.modules.get(NEW_NAME)
    # Without an origin it is just a directory of that name somewhere on the path.
    return any(spec.origin for spec in find_specs(OLD_NAME, None, skip=MMClsAlias))


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
