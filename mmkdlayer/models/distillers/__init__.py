"""The distiller, which needs mmrazor; without it, asking for the distiller says what to install."""

from typing import Any

from mmkdlayer.registry import MODELS

try:
    from .kd_layer_distiller import KDLayerDistiller
except Exception as error:  # mmrazor is absent, or fails in one of many ways while it is imported
    reason = error

    class KDLayerDistiller:  # type: ignore[no-redef]
        """Stands in where mmrazor can't be imported."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(
                'KDLayerDistiller needs mmrazor, which can not be imported here '
                f'({type(reason).__name__}: {reason}). Install it with: pip install '
                '"mmkdlayer[distill]". (The KD layer and an exported student work without it.)'
            ) from reason

    MODELS.register_module(module=KDLayerDistiller)

__all__ = ['KDLayerDistiller']
