"""Releases what a distiller recorded, at the end of each step."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdlayer.models.distillers import release_records
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS


@HOOKS.register_module()
class ReleaseRecordsHook(Hook):
    """Drops recorded feature maps, and the graph that they keep alive, after each training step.

    KDLayerDistiller drops them itself once its losses are computed. mmrazor's other distillers never
    do, and no distiller can while a StopDistillHook keeps its losses from being computed: the maps of
    the last step would stay in memory until the next one, during validation too, and a deep copy of
    the model would fail.
    """

    # Before hooks that copy or save the model.
    priority = 'VERY_HIGH'

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Drop what was recorded."""
        model = unwrap_model(runner.model)
        for name in ('distiller', 'generator_distiller'):
            if hasattr(model, name):
                release_records(getattr(model, name))
