"""Registries of this plugin: children of mmengine's, in the scope ``mmkdlayer``."""

from __future__ import annotations

import importlib
from typing import Any

import mmengine.registry
from mmengine.registry import Registry

SCOPE = 'mmkdlayer'
HOST_SCOPE = 'mmpretrain'


class PluginRegistry(Registry):
    """A registry of this plugin, which takes from mmpretrain's what it lacks itself.

    The configs of this project name mmpretrain's types without a scope. Inherited as ``mmkdlayer::...``
    they are built in the scope of this plugin.
    """

    def get(self, key: str) -> Any:
        """Look up a type; names without a scope here first, then where mmpretrain would."""
        self.import_from_location()
        if '.' not in key and key not in self._module_dict:
            importlib.import_module(f'{HOST_SCOPE}.registry')
            if HOST_SCOPE in self.parent.children:
                key = f'{HOST_SCOPE}.{key}'
        return super().get(key)


def _child_of(parent: Registry, location: str = 'mmkdlayer.engine') -> PluginRegistry:
    return PluginRegistry(parent.name, parent=parent, scope=SCOPE, locations=[location])


MODELS = _child_of(mmengine.registry.MODELS, 'mmkdlayer.models')
HOOKS = _child_of(mmengine.registry.HOOKS)
FUNCTIONS = _child_of(mmengine.registry.FUNCTIONS)
LOOPS = _child_of(mmengine.registry.LOOPS)
MODEL_WRAPPERS = _child_of(mmengine.registry.MODEL_WRAPPERS)
OPTIM_WRAPPERS = _child_of(mmengine.registry.OPTIM_WRAPPERS)
DATASETS = _child_of(mmengine.registry.DATASETS, 'mmkdlayer.stored')
DATA_SAMPLERS = _child_of(mmengine.registry.DATA_SAMPLERS, 'mmkdlayer.stored')
# Nothing of this plugin is in the others: mmpretrain's are found in them.
for _parent in list(vars(mmengine.registry).values()):
    if isinstance(_parent, Registry) and SCOPE not in _parent.children:
        _child_of(_parent)
