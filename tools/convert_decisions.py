"""Turn decision tables of other code into this project's decision files.

python -m mmkdlayer convert_decisions letkd DIR OUT

DIR holds what the authors' code writes: the sub-class tables (four .npy files), the quantiser, or
both. OUT gets inter.safetensors and penult.safetensors, for ``file=`` in a decision's config.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from cli import report_errors
from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import CheckpointError, ConfigError, DecisionFileError
from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision, TeacherDecision

CODE_BOOK = '_embedding.weight'
#: Dicts within dicts that are searched.
DEEPEST = 20
TORCH_SUFFIXES = ('.pth', '.pt', '.tar', '.ckpt', '.bin')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', choices=['letkd'], help='whose tables')
    parser.add_argument('folder', metavar='DIR', help='folder of the tables')
    parser.add_argument('out', metavar='OUT', help='folder for the decision files')
    parser.add_argument(
        '--num-subclasses', type=int, default=8, metavar='M', help='sub-classes per class (8)'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one folder."""
    args = parse_args(argv)
    with report_errors():
        written = convert_decisions(args.folder, args.out, args.num_subclasses)
        for path, decision in written.items():
            print(f'{path}: {type(decision).__name__}, {decision.num_templates} templates')


def convert_decisions(
    folder: str | Path, out: str | Path, num_subclasses: int = 8
) -> dict[Path, TeacherDecision]:
    """Convert what the authors' code wrote: the sub-class tables, the quantiser, or both.

    Args:
        folder: Holds ``lda_model_scalings.npy`` (D, R), ``lda_model_xbar.npy`` (D,),
            ``centers_subclass_<M>*.npy`` (C*M, L) and ``final_scores_<M>*.npy`` (C*M, C*M), and the
            quantiser, a file that torch saved with ``network._embedding.weight`` (K, D).
        out: Folder for ``inter.safetensors`` (sub-classes) and ``penult.safetensors`` (centroids).
        num_subclasses: M.

    Returns:
        The written files and their decisions.

    Raises:
        DecisionFileError: Files are missing, damaged, or do not fit each other.
        CheckpointError: The quantiser can't be read safely.
    """
    source = Path(folder)
    if not source.is_dir():
        raise DecisionFileError(f'{source}: expected a folder of tables, but there is none.')
    patterns = {
        'scalings': 'lda_model_scalings.npy',
        'mean': 'lda_model_xbar.npy',
        'centers': f'centers_subclass_{num_subclasses}*.npy',
        'decisions': f'final_scores_{num_subclasses}*.npy',
    }
    decisions: dict[str, TeacherDecision] = {}
    tables = _find_tables(source, patterns)
    if tables:
        decisions['inter'] = _subclass_decision(tables, num_subclasses)
        decisions['inter'].provenance = _provenance(*tables.values())
    for path, code_book in _find_code_book(source):
        try:
            decisions['penult'] = CentroidDecision.from_tables(code_book.float())
        except ConfigError as error:
            raise DecisionFileError(f'{path}: its code book does not fit. {error}') from error
        decisions['penult'].provenance = _provenance(path)
    if not decisions:
        raise DecisionFileError(
            f'{source}: expected the tables that the letKD code writes ({", ".join(patterns.values())}) '
            f'or a quantiser with "...{CODE_BOOK}" ({", ".join(TORCH_SUFFIXES)}), but found neither. '
            'Check the folder and --num-subclasses.'
        )
    written = {Path(out) / f'{name}.safetensors': found for name, found in decisions.items()}
    for path, decision in written.items():
        decision.save(path)
    return written


def _provenance(*files: Path) -> dict[str, Any]:
    return {'source': 'letkd', 'files': [path.name for path in files]}


def _find_tables(folder: Path, patterns: Mapping[str, str]) -> dict[str, Path]:
    """The four files of a sub-class decision, or none of them."""
    found = {name: sorted(folder.glob(pattern)) for name, pattern in patterns.items()}
    if not any(found.values()):
        return {}
    for name, paths in found.items():
        if len(paths) != 1:
            names = ', '.join(path.name for path in paths) or 'none'
            raise DecisionFileError(
                f'{folder}: expected one file {patterns[name]} beside the others of the sub-class '
                f'decision, but found {names}. Put the four files of one fit into one folder '
                '(--num-subclasses sets the number in the names).'
            )
    return {name: paths[0] for name, paths in found.items()}


def _subclass_decision(paths: Mapping[str, Path], num_subclasses: int) -> SubclassDecision:
    """``z = (f - xbar) scalings``, first L components, as ``z = A f + b``."""
    scalings = _read_array(paths['scalings'], 2)
    mean = _read_array(paths['mean'], 1)
    centers = _read_array(paths['centers'], 2)
    decisions = _read_array(paths['decisions'], 2)
    components = centers.size(1)
    if len(centers) % num_subclasses:
        raise DecisionFileError(
            f'{paths["centers"]}: expected (C*M, L) centers with M={num_subclasses}, but found '
            f'{tuple(centers.shape)}. Set --num-subclasses to the number that was used.'
        )
    if components > scalings.size(1) or len(mean) != len(scalings):
        raise DecisionFileError(
            f'{paths["scalings"]}: expected scalings (D={len(mean)}, R) with R of at least '
            f'L={components} (from {paths["mean"].name} and {paths["centers"].name}), but found '
            f'{tuple(scalings.shape)}. The files are not of one fit.'
        )
    projection = scalings[:, :components].t()
    try:
        return SubclassDecision.from_tables(
            projection=projection.contiguous().float(),
            offset=-(projection @ mean).float(),
            centers=centers.float(),
            decisions=decisions.float(),
            num_classes=len(centers) // num_subclasses,
        )
    except ConfigError as error:
        raise DecisionFileError(f'{paths["decisions"]}: its table does not fit. {error}') from error


def _read_array(path: Path, dimensions: int) -> Tensor:
    """A finite array of numbers, in float64, without unpickling anything."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, BadZipFile) as error:
        raise DecisionFileError(
            f'{path}: expected an array of plain numbers that numpy saved, but it cannot be read '
            f'({error}). Copy it again from where it was written.'
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'fiu':
        raise DecisionFileError(
            f'{path}: expected one array of plain numbers, but found another type.'
        )
    if array.ndim != dimensions or array.size == 0:
        raise DecisionFileError(
            f'{path}: expected an array of {dimensions} dimensions, but found shape {array.shape}.'
        )
    wrong = ~np.isfinite(array)
    if wrong.any():
        rows = np.unique(np.nonzero(wrong)[0])
        raise DecisionFileError(
            f'{path}: expected finite numbers, but {int(wrong.sum())} are not, in {len(rows)} '
            f'rows (the first is {rows[0]}). A sub-class without any counted position leaves such '
            'a row: fit the decision again with python -m mmkdlayer fit_decisions.'
        )
    return torch.from_numpy(array.astype(np.float64))


def _find_code_book(folder: Path) -> list[tuple[Path, Tensor]]:
    """The quantiser's centroids (K, D) and the file that holds them, or nothing."""
    found, unreadable = [], []
    for path in sorted(path for path in folder.iterdir() if path.suffix in TORCH_SUFFIXES):
        try:
            tensors = _tensors(read_checkpoint(path))
        except CheckpointError as error:
            unreadable.append(error)
            continue
        found += [(path, tensor) for name, tensor in tensors if name.endswith(CODE_BOOK)]
    if not found and unreadable:
        raise unreadable[0]
    if len(found) > 1:
        raise DecisionFileError(
            f'{folder}: expected one quantiser, but {", ".join(path.name for path, _ in found)} all '
            f'hold "...{CODE_BOOK}". Leave the one to convert in the folder, alone in its file.'
        )
    return found


def _tensors(saved: Any, prefix: str = '', depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts, by its dotted name."""
    if torch.is_tensor(saved):
        yield prefix, saved
    elif isinstance(saved, Mapping) and depth < DEEPEST:
        for name, value in saved.items():
            yield from _tensors(value, f'{prefix}.{name}', depth + 1)


if __name__ == '__main__':
    main()
