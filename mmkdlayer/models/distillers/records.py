"""What a distiller's recorders hold between two steps."""

from __future__ import annotations

from typing import Any


def release_records(distiller: Any) -> None:
    """Drop everything that a distiller's recorders hold; mmrazor's keep it until the next forward."""
    for manager in (distiller.student_recorders, distiller.teacher_recorders):
        for recorder in manager.recorders.values():
            recorder.reset_data_buffer()
    if hasattr(distiller, 'data_samples'):  # a KDLayerDistiller's
        distiller.data_samples.release()
