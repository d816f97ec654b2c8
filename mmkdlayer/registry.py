"""Registries of this plugin: children of mmengine's, in the scope ``mmkdlayer``."""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

_ENGINE = ['mmkdlayer.engine']

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmkdlayer', locations=['mmkdlayer.models']
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmkdlayer', locations=_ENGINE)
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmkdlayer', locations=_ENGINE)
MODEL_WRAPPERS = Registry(
    'model wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope='mmkdlayer', locations=_ENGINE
)
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mmkdlayer', locations=_ENGINE
)
