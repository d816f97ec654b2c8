"""Transform pipelines inside the configs of data sets."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import ConfigDict


def find_pipeline(dataset_cfg: Any) -> list | None:
    """The first ``pipeline`` in a data set's config, looking into wrappers."""
    if isinstance(dataset_cfg, dict):
        if 'pipeline' in dataset_cfg:
            return dataset_cfg['pipeline']
        dataset_cfg = list(dataset_cfg.values())
    if isinstance(dataset_cfg, (list, tuple)):
        for value in dataset_cfg:
            found = find_pipeline(value)
            if found is not None:
                return found
    return None


def replace_pipeline(dataset_cfg: Any, pipeline: list) -> Any:
    """A copy of a data set's config in which every ``pipeline`` is another one."""
    if isinstance(dataset_cfg, dict):
        return ConfigDict(
            {
                key: copy.deepcopy(pipeline)
                if key == 'pipeline'
                else replace_pipeline(value, pipeline)
                for key, value in dataset_cfg.items()
            }
        )
    if isinstance(dataset_cfg, (list, tuple)):
        return [replace_pipeline(value, pipeline) for value in dataset_cfg]
    return dataset_cfg
