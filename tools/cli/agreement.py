"""Whether all ranks were given the same config and data."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine import dist
from mmengine.config import Config
from mmengine.runner import Runner

from mmkdlayer.checkpoints import hash_file
from mmkdlayer.engine.agreement import compare_over_ranks
from mmkdlayer.engine.fingerprints import describe_dataset
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.version import installed_versions

#: Keys of a config, at any depth, that may differ: where things are, and how fast they are read.
FREE_KEYS = {
    *('work_dir', 'out_dir', 'save_dir', 'cache_dir', 'launcher', 'env_cfg', 'experiment_name'),
    *('num_workers', 'prefetch_factor', 'pin_memory', 'persistent_workers'),
    *('visualizer', 'vis_backends', 'log_level', 'log_processor'),
}
# Where an object is in memory, in its text.
_ADDRESS = re.compile(r' at 0x[0-9a-f]+', re.I)


def compare_configs(cfg: Config, **others: Any) -> None:
    """Raise a ConfigError where ranks have other configs, files that these name, or versions.

    All ranks must call it, before anything that depends on the config is built. Where a value is the
    path of a file, such as ``teacher_ckpt`` or a decision's ``file``, its content is compared: each
    machine may have a copy of its own. :data:`FREE_KEYS` may differ. ``others`` are compared too.
    """
    if dist.get_world_size() == 1:
        return
    with errors_on_all_ranks():
        versions = {f'version of {name}': found for name, found in installed_versions().items()}
        del versions['version of python']  # which no result depends on
        facts = dict(_config_facts(dict(cfg.to_dict(), **others), ''), **versions)
    compare_over_ranks(facts)


def compare_data(runner: Runner) -> None:
    """Raise a ConfigError where ranks have other training or validation data: number, names, labels.

    All ranks must call it.

    Raises:
        ConfigError: See above.
        DataError: A data set has no images.
    """
    if dist.get_world_size() == 1:
        return
    facts: dict[str, Any] = {}
    with errors_on_all_ranks():
        for name in ('train_dataloader', 'val_dataloader'):
            if runner.cfg.get(name):
                dataset = getattr(getattr(runner, name), 'dataset', None)
                if hasattr(dataset, 'get_data_info'):
                    data = describe_dataset(dataset, None, needs_labels=False)
                    facts.update({f'{name}: {key}': value for key, value in data.items()})
    compare_over_ranks(facts)


def _config_facts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Each entry of a config by its dotted name, as text; files by their content."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in FREE_KEYS:
                yield from _config_facts(item, f'{name}.{key}' if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _config_facts(item, f'{name}.{index}')
    elif isinstance(value, (str, os.PathLike)):
        yield name, _describe_text(os.fspath(value))
    elif isinstance(value, (set, frozenset)):
        yield name, repr(sorted(value, key=repr))  # their order differs from process to process
    else:
        yield name, getattr(value, '__qualname__', None) or _ADDRESS.sub('', repr(value))


def _describe_text(text: str) -> str:
    if os.path.isdir(text):
        return 'a folder'
    if not os.path.isfile(text):
        return repr(text)
    size, digest = os.path.getsize(text), hash_file(text)
    return f'a file of {size} bytes with SHA-256 {digest[:16]}'
