"""The distiller, which needs mmrazor; without it, asking for the distiller says what to install."""

from typing import Any

from mmkdlayer.registry import MODELS

from .records import release_records

try:
    from .kd_layer_distiller import KDLayerDistiller
    from .teacher_group import TeacherGroup
except Exception as error:  # mmrazor is absent, or fails in one of many ways while it is imported
    reason = error

    class _NeedsMMRazor:
        """Stands in where mmrazor can't be imported."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(
                f'{type(self).__name__} needs mmrazor, which can not be imported here '
                f'({type(reason).__name__}: {reason}). Install it with: pip install '
                '"mmrazor>=1,<2" joblib. (The KD layer and an exported student work without it.)'
            ) from reason

    class KDLayerDistiller(_NeedsMMRazor):  # type: ignore[no-redef]
        """Stands in for the distiller."""

    class TeacherGroup(_NeedsMMRazor):  # type: ignore[no-redef]
        """Stands in for the group of teachers."""

    for stand_in in (KDLayerDistiller, TeacherGroup):
        MODELS.register_module(module=stand_in, force=True)

__all__ = ['KDLayerDistiller', 'TeacherGroup', 'release_records']
