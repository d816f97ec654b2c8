"""The data sets of a config, opened as the host library opens them, and the names of their classes."""

from __future__ import annotations

import inspect
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mmengine.config import Config
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import find_folders
from mmpretrain.registry import DATASETS

from mmkdlayer.errors import DataError, KDLayerError
from mmkdlayer.pipelines import find_datasets
from mmkdlayer.type_names import type_name

from .building import arguments_of

#: Folders that people take for one another.
SPLITS = ('val', 'test', 'valid', 'validation')


@dataclass
class DataSet:
    """One data set of a data loader, wrappers left out."""

    path: str  #: its dotted name in the config
    config: dict  #: its part of the config
    opened: CustomDataset | None = None  #: the host's, its list not read; None for other kinds
    place: str = ''  #: folder of the images, or the list, as messages name it
    folders: list[str] | None = None  #: its class folders, in the order of their labels
    names: list[str] | None = None  #: names of its classes, in the order of their labels


def open_data_sets(cfg: Config, loaders: tuple[str, ...]) -> list[DataSet]:
    """Open the data sets of some loaders; the lists of images are not read.

    Raises:
        DataError: A folder or list is not there, or class folders can't be classes.
    """
    return [
        open_data_set(path, dataset)
        for loader in loaders
        for path, dataset in find_datasets(cfg.get(loader), loader)
    ]


def open_data_set(path: str, config: dict) -> DataSet:
    """Open one data set, named ``path`` in messages; raises what :func:`open_data_sets` raises."""
    kind = config['type']
    dataset_class = kind if inspect.isclass(kind) else DATASETS.get(kind)
    opened = _open(path, config, dataset_class)
    if opened is None:
        root = os.path.expanduser(str(config.get('data_root') or ''))
        gone = root and is_local(root) and not os.path.isdir(root)
        if gone and dataset_class and 'download' not in arguments_of(dataset_class):
            raise DataError(
                f'{path} ({type_name(kind)}): there is no folder {root}. {_advice(path, "data_root")}'
            )
        return DataSet(path, config)
    prefix, listed = opened.img_prefix, opened.ann_file
    data = DataSet(path, config, opened, listed or prefix, names=as_names(opened.CLASSES))
    if not is_local(data.place):
        return data
    if listed and not os.path.isfile(listed):
        raise DataError(f'{path}: there is no file {listed}. {_advice(path, "ann_file")}')
    if prefix and not os.path.isdir(prefix):
        raise DataError(
            f'{path} ({type_name(kind)}): there is no folder {prefix}. '
            f'{_neighbour(path, prefix) or _advice(path, "data_root")}'
        )
    if not listed and opened.with_label:
        data.folders = find_folders(prefix)[0]
        _check_folders(data)
        data.names = data.names or data.folders
    return data


def _open(path: str, config: dict, dataset_class: Any) -> CustomDataset | None:
    """The host's data set of files, without transforms; None for one that finds its images otherwise."""
    if getattr(dataset_class, 'load_data_list', None) is not CustomDataset.load_data_list:
        return None
    try:
        return DATASETS.build(dict(config, pipeline=[], serialize_data=False, lazy_init=True))
    except TypeError:  # other arguments; if they are wrong ones, the Runner says it
        return None
    except KDLayerError:
        raise
    except Exception as error:
        text = ' '.join(str(error).split())[:300]
        raise DataError(f'{path}: the data set can not be read ({text}).') from error


def is_local(place: str) -> bool:
    """Whether a path is one of this machine's file system."""
    return '://' not in place


def as_names(names: Any) -> list[str] | None:
    """Names of classes as configs and checkpoints hold them; None where they hold none."""
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else None


def _advice(path: str, key: str) -> str:
    return (
        'Put the data there, or give the place of all data with --data-root ROOT (of one data set: '
        f'--cfg-options {path}.{key}=...).'
    )


def _neighbour(path: str, folder: str) -> str:
    """A hint where validation images are in the folder of the test images, or the other way round."""
    parent, name = os.path.split(os.path.abspath(folder))
    for other in SPLITS if name in SPLITS else ():
        if os.path.isdir(os.path.join(parent, other)):
            return (
                f'There is {os.path.join(parent, other)}: to use it, add --cfg-options '
                f'{path}.data_prefix={other}, or rename the folder.'
            )
    return ''


def _check_folders(data: DataSet) -> None:
    """Class folders can be classes, and are those that the config names."""
    found = data.folders or []
    for name in found:
        if name.startswith('.'):
            raise DataError(
                f'{data.path}: the hidden folder {os.path.join(data.place, name)} would be a class, as '
                'every folder beside the classes. Remove it, or move it elsewhere.'
            )
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f'{data.path}: the name of the class folder {os.fsencode(name)!r} in {data.place} is '
                'not UTF-8, so it can not be written into logs and checkpoints. Rename it.'
            ) from error
    if not found:
        raise DataError(
            f'{data.path}: expected a folder for each of the classes in {data.place}, but found 0 '
            'folders. Put the images of each class into a folder of its own.'
        )
    if data.names and not _differ_in_kind(data.names, found):
        _compare(data.names, found, f'{data.path}.classes', f'the folders of {data.place}')


def check_classes(data_sets: list[DataSet]) -> None:
    """All data sets give the same labels to the same classes.

    Labels are positions: of a folder in sorted order, of a name in a list.

    Raises:
        DataError: They differ.
    """
    for one, other in combinations(data_sets, 2):
        if one.folders is not None and other.folders is not None:
            where = f'{other.path}: the folders of {other.place}'
            _compare(one.folders, other.folders, f'the folders of {one.place}', where)
        elif one.names and other.names and not _differ_in_kind(one.names, other.names):
            _compare(one.names, other.names, one.path, other.path)


def check_stored_classes(
    data_sets: list[DataSet], meta: Any, file: str, other_names: bool = False
) -> None:
    """The classes that a checkpoint was trained on, where it names them, are those of the data sets.

    Args:
        data_sets: As opened.
        meta: The checkpoint's ``meta``.
        file: The checkpoint, for messages.
        other_names: As many names that have nothing in common with these are right too: a teacher may
            know the classes by names for people.

    Raises:
        DataError: They differ.
    """
    stored = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    names = as_names(stored.get('classes')) if isinstance(stored, Mapping) else None
    for data in data_sets if names else ():
        if data.names and not (other_names and _differ_in_kind(names or [], data.names)):
            place = f'{data.path}: {data.place}' if data.place else data.path
            _compare(names or [], data.names, f'the checkpoint {file}', place)


def _differ_in_kind(names: list[str], others: list[str]) -> bool:
    """Names for people, such as those of ImageNet, have nothing in common with those of folders."""
    return len(names) == len(others) and not set(names) & set(others)


def _compare(expected: list[str], found: list[str], source: str, where: str) -> None:
    """Raise a DataError where two lists of class names differ, by set or by order."""
    if expected == found:
        return
    missing = [name for name in expected if name not in set(found)]
    others = [name for name in found if name not in set(expected)]
    if missing or others:
        listed = [', '.join(names[:5]) or 'none' for names in (missing, others)]
        difference = f'missing: {listed[0]}; unknown: {listed[1]}'
        if {_composed(name) for name in missing} & {_composed(name) for name in others}:
            difference += '; the same letters in another Unicode form, as macOS writes them'
    else:
        pairs = enumerate(zip(expected, found))
        index = next((i for i, (one, other) in pairs if one != other), -1)
        difference = f'class {index} is {found[index]}, but {expected[index]} there'
    raise DataError(
        f'{where}: expected the {len(expected)} classes of {source}, in the same order, but found '
        f'{len(found)} ({difference}). Labels are positions in this order, so images would get the '
        'labels of other classes. Give the folders the same names; a class without images needs an '
        'empty folder.'
    )


def _composed(name: str) -> str:
    return unicodedata.normalize('NFC', name)
