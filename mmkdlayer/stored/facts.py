"""What decides how the views of a training set look: compared before stored decisions are used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmkdlayer.engine.fingerprints import describe_dataset, without_paths
from mmkdlayer.pipelines import backend_args_of, find_pipelines
from mmkdlayer.type_names import type_name
from mmkdlayer.version import versions_of

#: Packages whose version may change what a pipeline draws.
DRAWING = (
    *('torch', 'torchvision', 'numpy', 'Pillow', 'opencv-python', 'opencv-python-headless'),
    *('mmcv', 'mmcv-lite', 'onedl-mmcv', 'mmpretrain', 'onedl-mmpretrain', 'albumentations'),
)


def describe_drawing(dataset: Any, dataset_cfg: Any) -> dict[str, Any]:
    """What decides the views of a training set, without wrappers that repeat images, and its config.

    Returns:
        ``data`` (``images``, ``files``, ``content``, as
        :func:`~mmkdlayer.engine.fingerprints.describe_dataset`), ``classes`` (their names, or None),
        ``pipeline`` (the transforms of each data set, without places) and ``versions`` (of what draws),
        all as JSON gives them back.

    Raises:
        DataError: There are no images.
    """
    pipelines = find_pipelines(dataset_cfg)
    data = describe_dataset(dataset, None, False, backend_args_of(pipelines))
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    facts = dict(
        data=data,
        classes=None if classes is None else list(classes),
        pipeline=[[_canonical(without_paths(step)) for step in steps] for steps in pipelines],
        versions=versions_of(DRAWING),
    )
    return json.loads(json.dumps(facts, default=str))


def _canonical(value: Any) -> Any:
    """A transform with the bare name of its type, however the config gives it."""
    if isinstance(value, Mapping):
        return {
            str(key): type_name(item) if key == 'type' else _canonical(item)
            for key, item in value.items()
        }
    return [_canonical(item) for item in value] if isinstance(value, (list, tuple)) else value


def drawing_differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for each thing that differs, of two results of :func:`describe_drawing`.

    Versions are left out: hashes of views tell whether they draw the same, see
    :func:`version_differences`.
    """
    phrases = []
    theirs, ours = stored['data'], now['data']
    if theirs['images'] != ours['images']:
        phrases.append(f'there were {theirs["images"]} images and are {ours["images"]}')
    if stored['classes'] != now['classes']:
        phrases.append(_list_difference('class', stored['classes'] or [], now['classes'] or []))
    if not phrases and theirs['files'] != ours['files']:
        phrases.append('the names of the images, their order or their labels were others')
    elif not phrases and theirs['content'] != ours['content']:
        phrases.append('images of the same names have another content')
    if stored['pipeline'] != now['pipeline']:
        before, after = ([step for steps in f['pipeline'] for step in steps] for f in (stored, now))
        phrases.append(_list_difference('step', before, after))
    return phrases


def _list_difference(name: str, before: list, after: list) -> str:
    """Where two lists differ first."""
    for index, (old, new) in enumerate(zip(before, after)):
        if old != new:
            where = f'{name} {index}' if name == 'class' else f'{name} {index} of the pipeline'
            return f'{where} was {old} and is {new}'
    plural = 'classes' if name == 'class' else 'steps in the pipeline'
    return f'there were {len(before)} {plural} and are {len(after)}'


def version_differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for each package that draws and has another version."""
    theirs, ours = stored['versions'], now['versions']
    return [
        f'{name} was {theirs.get(name, "not there")} and is {ours.get(name, "not there")}'
        for name in {**theirs, **ours}
        if theirs.get(name) != ours.get(name)
    ]
