"""Uses decisions that are there already: those whose files the config names, and those stored before."""

from __future__ import annotations

from pathlib import Path

from mmengine.logging import MMLogger

from mmkdlayer.errors import DecisionFileError
from mmkdlayer.fitting.distributed import from_first_rank
from mmkdlayer.models.decisions import read_decision_file

from .provenance import differences
from .supervision import SupervisedLayer


def check_given(layer: SupervisedLayer) -> None:
    """Check a decision whose file the config names.

    Raises:
        DecisionFileError: It was fitted on another teacher.
    """
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


def use_stored(layer: SupervisedLayer, path: Path) -> bool:
    """Whether a decision that was stored before fits, and is used, on all ranks.

    The folder may be on a disk that only the main process has: the others get the decision from it.
    """
    found = from_first_rank(lambda: layer.decision if _load_stored(layer, path) else None)
    if found is not None and found is not layer.decision:
        layer.decision.copy_from(found)
    return found is not None


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
