"""Registries of this plugin: children of mmengine's, in the scope ``mmkdlayer``."""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmkdlayer', locations=['mmkdlayer.models']
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmkdlayer', locations=['mmkdlayer.engine'])
