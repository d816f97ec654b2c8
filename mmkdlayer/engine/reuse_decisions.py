"""Uses decisions that are there already: those whose files the config names, and those stored before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger

from mmkdlayer.errors import DecisionFileError
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.models.decisions import read_decision_file

from .provenance import differences
from .supervision import SupervisedLayer


def reuse_decisions(
    layers: Sequence[SupervisedLayer], paths: Mapping[str, Path]
) -> list[SupervisedLayer]:
    """Check given decisions and load stored ones.

    Args:
        layers: All of them, with their provenance.
        paths: By name, where the decisions that are not given are stored.

    Returns:
        The layers whose decisions must be fitted.

    Raises:
        DecisionFileError: A given decision was fitted on another teacher.
    """
    for layer in layers:
        if layer.name not in paths:
            _check_given(layer)
    unfitted = [layer for layer in layers if layer.name in paths]
    return [layer for layer in unfitted if not _share_stored(layer, paths[layer.name])]


def _check_given(layer: SupervisedLayer) -> None:
    """A decision whose file the config names must have been fitted on this teacher."""
    decision, logger = layer.decision, MMLogger.get_current_instance()
    origin = f'Decision file {decision.file}' if decision.file else f'Decision "{layer.name}"'
    logger.info(f'{origin} is used for "{layer.name}".')
    found = decision.provenance
    fingerprint = (found.get('teacher') or {}).get('weights')
    own = layer.provenance['teacher']['weights']
    if fingerprint not in (None, own):
        raise DecisionFileError(
            f'{origin} was fitted on a teacher with the fingerprint {fingerprint}, but the teacher '
            f'here has {own}. Use the file of this teacher, or fit again (leave the file out of the '
            'config).'
        )
    others = [
        text for text in differences(layer.provenance, found) if not text.startswith('teacher ')
    ]
    if found and others:
        logger.warning(f'{origin} is used as it is, though {"; ".join(others)}.')


def _share_stored(layer: SupervisedLayer, path: Path) -> bool:
    """Use a stored decision on all ranks or on none: the main process looks, the others get it.

    The folder may be on a disk that only the main process has.
    """
    found: list[Any] = [None]
    with errors_on_all_ranks():
        if is_main_process() and _load_stored(layer, path):
            found = [layer.decision]
    broadcast_object_list(found)
    if found[0] is not None and not is_main_process():
        layer.decision.copy_from(found[0])
    return found[0] is not None


def _load_stored(layer: SupervisedLayer, path: Path) -> bool:
    """Load a stored decision if it was fitted on the same things; say why where it was not."""
    logger = MMLogger.get_current_instance()
    if not path.exists():
        return False
    try:
        found = read_decision_file(path, tables=False).provenance
        reason = '; '.join(differences(layer.provenance, found))
        if not reason:
            layer.decision.load(path)
            logger.info(f'Decision "{layer.name}": reused {path}.')
            return True
    except DecisionFileError as error:
        reason = str(error)
    logger.warning(f'Decision "{layer.name}": {path} is not used, it is fitted again: {reason}')
    return False
