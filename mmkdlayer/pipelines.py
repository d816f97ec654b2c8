"""Transform pipelines inside the configs of data sets, and the data loader of the fitting."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import ConfigDict

from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name


def test_loader(cfg: Any) -> Any:
    """The config of the data loader that a student is tested with: of ``test``, else of ``val``."""
    return cfg.get('test_dataloader') or cfg.get('val_dataloader')


def find_dataset(value: Any) -> dict | None:
    """The first data set with a ``pipeline`` in the config of a data loader, looking into wrappers."""
    return next(_with_pipelines(value), None)


def find_pipeline(dataset_cfg: Any) -> list | None:
    """The ``pipeline`` of that data set."""
    return next(iter(find_pipelines(dataset_cfg)), None)


def find_pipelines(dataset_cfg: Any) -> list[list]:
    """The ``pipeline`` of every data set in a config, also of those that others wrap."""
    return [dataset['pipeline'] for dataset in _with_pipelines(dataset_cfg)]


def _with_pipelines(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        if 'pipeline' in value:
            yield value
        value = [item for key, item in value.items() if key != 'pipeline']
    for item in value if isinstance(value, (list, tuple)) else ():
        yield from _with_pipelines(item)


def replace_pipeline(dataset_cfg: Any, pipeline: list) -> Any:
    """A copy of a data set's config under another pipeline: every one is replaced, but for its loading.

    What loads an image depends on the data set (files or arrays, where files are, their colours): the
    loading steps stay its own, the others are those of ``pipeline``.
    """
    if isinstance(dataset_cfg, dict):
        return ConfigDict(
            {
                key: copy.deepcopy([*split_loading(value)[0], *split_loading(pipeline)[1]])
                if key == 'pipeline'
                else replace_pipeline(value, pipeline)
                for key, value in dataset_cfg.items()
            }
        )
    if isinstance(dataset_cfg, (list, tuple)):
        return [replace_pipeline(value, pipeline) for value in dataset_cfg]
    return dataset_cfg


def split_loading(pipeline: Sequence) -> tuple[list, list]:
    """The first steps of a pipeline, to the one that loads the image (``Load...``), and the others."""
    steps = list(pipeline)
    loading = [_loads(step) for step in steps]
    if not any(loading):
        return [], steps
    end = loading.index(True)
    while end < len(steps) and loading[end]:
        end += 1
    return steps[:end], steps[end:]


def _loads(step: Any) -> bool:
    return isinstance(step, Mapping) and type_name(step.get('type')).startswith('Load')


def backend_args_of(pipelines: Iterable[Sequence]) -> Mapping | None:
    """How the first loading step with ``backend_args`` reads files, as in mmengine; None: plainly."""
    for pipeline in pipelines:
        for step in filter(_loads, pipeline):
            if step.get('backend_args'):
                return step['backend_args']
    return None


def fitting_dataloader_cfg(cfg: Any) -> ConfigDict:
    """The training set, in order, under the test-time transform.

    Each item of the data set comes once; a wrapper that repeats images (RepeatDataset) is kept, so its
    images count as often as it gives them.

    Args:
        cfg: A training config with ``train_dataloader`` and ``val_dataloader`` or
            ``test_dataloader``; without these two, as where there are no labels, ``test_pipeline``.

    Raises:
        ConfigError: One of them is missing.
    """
    train = cfg.get('train_dataloader')
    test = cfg.get('val_dataloader') or cfg.get('test_dataloader') or {}
    pipeline = find_pipeline(test.get('dataset')) if test else cfg.get('test_pipeline')
    if not train or pipeline is None:
        raise ConfigError(
            'Fitting the decisions needs train_dataloader (the images) and val_dataloader or '
            'test_dataloader with a pipeline (the test-time transform), or test_pipeline, but '
            f'the config has {[k for k in cfg if k.endswith("_dataloader")]}. Add what is missing.'
        )
    batch_size = max(train.get('batch_size', 1), test.get('batch_size', 1))
    dataset = replace_pipeline(train['dataset'], pipeline)
    workers = train.get('num_workers', 0)
    return in_order(test, dataset=dataset, batch_size=batch_size, num_workers=workers)


def in_order(test: Any, **changes: Any) -> ConfigDict:
    """Config of a loader that gives each image once, made as another, such as the one for testing.

    ``changes`` are of its ``dataset``, ``batch_size``, ``num_workers`` and ``sampler``.
    """
    own = dict(
        batch_size=test.get('batch_size', 1),
        num_workers=test.get('num_workers', 0),
        sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
        drop_last=False,
    )
    loader = ConfigDict({**own, **changes})  # a ConfigDict's own update would merge
    if 'dataset' not in changes:
        loader.dataset = test['dataset']
    for key in ('collate_fn', 'pin_memory', 'prefetch_factor'):
        if key in test and not (key == 'prefetch_factor' and loader['num_workers'] == 0):
            loader[key] = copy.deepcopy(test[key])
    return loader


def find_datasets(value: Any, path: str) -> Iterator[tuple[str, dict]]:
    """The configs of the data sets in a data loader's, without wrappers, each with its dotted name."""
    if isinstance(value, dict):
        if 'type' in value and any(
            key in value for key in ('data_root', 'data_prefix', 'ann_file')
        ):
            yield path, value
            return
        for key, item in value.items():
            yield from find_datasets(item, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from find_datasets(item, f'{path}.{index}')
