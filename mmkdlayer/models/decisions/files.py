"""Decision files: safetensors with a JSON header that says what was fitted on what."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.plain_json import parse_json

FORMAT = 'mmkdlayer.decision'
FORMAT_VERSION = 1


@dataclass
class DecisionFile:
    """The content of a decision file."""

    kind: str  #: class name of the decision
    settings: dict[str, Any]  #: its arguments (sizes)
    #: What it was fitted on: teacher, layer, pooled size, data, seed, versions, date.
    provenance: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Tensor] = field(default_factory=dict)  #: tensors by name
    path: str = ''  #: where it was read


def write_decision_file(path: str | os.PathLike, content: DecisionFile) -> None:
    """Write a decision file atomically: a reader sees the old file or the new one, whole.

    Raises:
        OSError: The folder can't be made or written.
    """
    metadata = {
        'format': FORMAT,
        'format_version': str(FORMAT_VERSION),
        'header': json.dumps(
            dict(kind=content.kind, settings=content.settings, provenance=content.provenance),
            sort_keys=True,
        ),
    }
    tensors: dict[str, Tensor] = {}
    storages = set()
    for name, table in _split_sparse(content.tables).items():
        tensor = table.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        # The format has no tensors that share memory.
        tensors[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    metadata['sha256'] = _checksum(metadata['header'], tensors)
    with replacing(path) as partial:
        save_file(tensors, partial, metadata=metadata)
        _order_metadata(partial)


def _order_metadata(path: Path) -> None:
    """Give equal decisions equal files: safetensors writes metadata in an order that changes."""
    with path.open('r+b') as file:
        size = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(size))
        header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
        text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def _checksum(header: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a file's content: safetensors itself does not notice a changed number."""
    digest = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        # As bytes, since numpy has no bfloat16.
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_decision_file(path: str | os.PathLike) -> DecisionFile:
    """Read a decision file once, and check what was read.

    The tables are memory of their own, which stays as it is when the file is changed or removed. Reading
    takes twice their size for a moment, the file's bytes and the tables; the tables stay.

    Raises:
        DecisionFileError: There is no such file, it is damaged, or it is not a decision file.
    """
    try:
        metadata, tables = _read_safetensors(Path(path))
        header = _check_header(metadata, tables)
    except DecisionFileError as error:
        raise DecisionFileError(
            f'Decision file {path}: {error}. Fit it again with "python -m mmkdlayer fit_decisions '
            'CONFIG --out DIR", or leave the file out of the config: training then fits it by itself.'
        ) from error
    return DecisionFile(**header, tables=tables, path=os.fspath(path))


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file, from one reading of it.

    ``safe_open`` would map the file, and who writes into it later would change the tensors.

    Raises:
        DecisionFileError: It can't be read, or is none of this format, or its size is not what its
            header says.
    """
    if not path.is_file():
        raise DecisionFileError('there is no such file')
    try:
        with path.open('rb') as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(8)
            header_end = 8 + int.from_bytes(start, 'little')
            if not 8 < header_end <= size:
                raise ValueError(f'its header ends at byte {header_end} of {size}')
            data = start + file.read()
        tables = load(data)
        return parse_json(data[8:header_end].decode()).get('__metadata__') or {}, tables
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        reason = 'there is not enough memory' if isinstance(error, MemoryError) else error
        raise DecisionFileError(
            f'expected a whole safetensors file, but it can not be read ({reason}); it is '
            'truncated, damaged or something else'
        ) from error


def _check_header(metadata: dict[str, str], tables: dict[str, Tensor]) -> dict[str, Any]:
    """Kind, settings and provenance, of the types that others rely on.

    Raises:
        DecisionFileError: The file is of another program or version, or is not what was written.
    """
    if metadata.get('format') != FORMAT:
        raise DecisionFileError(
            f'expected a file of format "{FORMAT}", but its header says {metadata.get("format")!r}; '
            'another program wrote it'
        )
    if metadata.get('format_version') != str(FORMAT_VERSION):
        raise DecisionFileError(
            f'expected format version {FORMAT_VERSION}, but found {metadata.get("format_version")}; use '
            'the mmkdlayer that wrote it'
        )
    written = metadata.get('sha256')  # a file made by other means may have none
    if written and written != _checksum(metadata.get('header', ''), tables):
        raise DecisionFileError(
            'its content is not what was written (the SHA-256 in its header is of something else); it '
            'was changed or damaged'
        )
    try:
        header = parse_json(metadata['header'])
        kind, settings, provenance = (header[name] for name in ('kind', 'settings', 'provenance'))
        names = ('teacher', 'layer', 'data', 'fitting')
        parts = {f'provenance.{name}': provenance.get(name) or {} for name in names}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecisionFileError(f'its header is damaged ({error!r})') from error
    wrong = [n for n, part in dict(parts, settings=settings).items() if not isinstance(part, dict)]
    if wrong or not isinstance(kind, str):
        raise DecisionFileError(
            f'its header is damaged ({(wrong or ["kind"])[0]} is of another type)'
        )
    return dict(kind=kind, settings=settings, provenance=provenance)


def _split_sparse(tables: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tables as a file has them: a sparse one is two, its indices and its values."""
    split: dict[str, Tensor] = {}
    for name, table in tables.items():
        if table.is_sparse:
            table = table.coalesce()
            split[f'{name}.indices'], split[f'{name}.values'] = table.indices(), table.values()
        else:
            split[name] = table
    return split


def _join_sparse(tables: dict[str, Tensor], side: int) -> dict[str, Tensor]:
    """The tables of a file, in which a sparse one (side, side) is two: its indices and its values."""
    joined = {name: table for name, table in tables.items() if '.' not in name}
    for name in {name.split('.')[0] for name in tables if '.' in name}:
        indices, values = tables[f'{name}.indices'], tables[f'{name}.values']
        # Unchecked, indices out of range would be memory out of range.
        joined[name] = torch.sparse_coo_tensor(
            indices, values, (side, side), check_invariants=True
        ).coalesce()
    return joined


def load_decision(kind: Any, decision: Any, source: str | os.PathLike | DecisionFile) -> Any:
    """Load a decision file, or what was read of it: make a decision (on the class) or fill one.

    Raises:
        DecisionFileError: The file is missing, damaged, foreign, or was fitted with other
            settings (both values are named).
    """
    content = source if isinstance(source, DecisionFile) else read_decision_file(source)
    path = content.path
    if content.kind != kind.__name__:
        raise DecisionFileError(
            f'Decision file {path}: expected a {kind.__name__}, but it holds a {content.kind}. '
            'Give each decision its own file.'
        )
    try:
        decision = kind(**content.settings) if decision is None else decision
    except (ConfigError, TypeError) as error:
        raise DecisionFileError(
            f'Decision file {path}: its header is damaged; the settings {content.settings} make '
            f'no {kind.__name__} ({error}).'
        ) from error
    differing = [
        f'{name} is {value!r} in the config and {content.settings[name]!r} in the file'
        for name, value in decision.fit_options().items()
        if name in content.settings and content.settings[name] != value
    ]
    if differing:
        raise DecisionFileError(
            f'Decision file {path} does not fit the config: {"; ".join(differing)}. Use the file '
            'that was fitted for this config, or change the config, or fit again.'
        )
    try:
        decision.set_tables(**_join_sparse(content.tables, decision.num_templates))
    except (ConfigError, KeyError, RuntimeError, TypeError) as error:
        raise DecisionFileError(f'Decision file {path}: its tables do not fit. {error}') from error
    decision.provenance = content.provenance
    return decision


class ClassOrInstanceMethod:
    """``Decision.load(path)`` makes a decision, ``decision.load(path)`` fills one."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __get__(self, instance: Any, owner: type) -> Callable:
        return functools.update_wrapper(
            functools.partial(self.function, owner, instance), self.function
        )
