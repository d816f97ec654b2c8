"""Renames the weights of a published teacher to those that mmpretrain loads, and checks them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Callable, NamedTuple

import torch
from torch import Tensor

from mmkdlayer.atomic import replacing
from mmkdlayer.checkpoints import describe_misfits, read_state_dict
from mmkdlayer.errors import CheckpointError
from mmkdlayer.version import __version__

from .crd import KNOWN, crd_network, detect_crd
from .networks import SourceNetwork
from .torchvision import NAMES, detect_torchvision, torchvision_network

COUNTER = '.num_batches_tracked'
#: Entries of published checkpoints that hold the weights.
ENTRIES = ('model', 'state_dict', 'model_state_dict', 'net')


class Source(NamedTuple):
    """A model zoo: what to call it, its networks (for messages), how to recognise and find one."""

    title: str
    known: str
    detect: Callable[[Mapping[str, Tensor]], str | None]
    network: Callable[[str], SourceNetwork]


SOURCES = {
    'crd': Source('the CRD zoo', KNOWN, detect_crd, crd_network),
    'torchvision': Source('torchvision', ', '.join(NAMES), detect_torchvision, torchvision_network),
}


def convert_teacher(
    source: str,
    checkpoint: str | Path,
    out: str | Path,
    arch: str | None = None,
    num_classes: int | None = None,
) -> SourceNetwork:
    """Convert a published checkpoint, check it by loading and running our network, and save it.

    Args:
        source: 'crd' or 'torchvision'.
        checkpoint: The published file.
        out: Where the converted one goes: ``state_dict`` (``backbone.*``, ``head.fc.*``) and
            ``meta``.
        arch: Name of the network; found from the keys if None.
        num_classes: Classes that the head must have; not checked if None.

    Returns:
        Which network it is.

    Raises:
        CheckpointError: The file can't be read, is of another source or network, has another number
            of classes, or gives logits that are not finite.
        ConfigError: There is no network of that name.
    """
    path, target = Path(checkpoint), Path(out)
    network = None if arch is None else SOURCES[source].network(arch)
    state, _ = read_state_dict(path, ENTRIES)
    if target.is_dir() or (target.exists() and target.samefile(path)):
        raise CheckpointError(
            f'{target}: expected the name of a new file for the converted checkpoint, but it is '
            f'{"a folder" if target.is_dir() else "the published checkpoint itself"}. Name another.'
        )
    if network is None:
        network = _find_network(state, source, path)
    classes = _count_classes(state, network, num_classes, path)
    classifier = network.build(classes).eval()
    renamed = _rename(state, network, classifier.state_dict(), path)
    classifier.load_state_dict(renamed, strict=True)
    # Any size runs through these networks; a small one is as good a check as the full one.
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.no_grad():
        logits = classifier(images, mode='tensor')
    if logits.shape != (2, classes) or not torch.isfinite(logits).all():
        raise CheckpointError(
            f'{path}: expected finite logits of shape (2, {classes}) from {network.name}, but got '
            f'shape {tuple(logits.shape)} with {int((~torch.isfinite(logits)).sum())} values that '
            'are not finite. The weights are damaged; get the file again.'
        )
    weights = dict(classifier.state_dict())
    meta = {
        'source': source,
        'arch': network.name,
        'num_classes': classes,
        'backbone': dict(network.backbone),
        'mmkdlayer_version': __version__,
    }
    try:
        with replacing(target) as partial:
            torch.save({'state_dict': weights, 'meta': meta}, partial)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f'{target}: expected to write a checkpoint there, but {error}. Choose another place.'
        ) from error
    return network


def _find_network(state: Mapping[str, Tensor], source: str, path: Path) -> SourceNetwork:
    """The network that the keys look like."""
    name = SOURCES[source].detect(state)
    if name is not None:
        return SOURCES[source].network(name)
    hint = f'Its first keys are {list(state)[:3]}; if it is one of these, name it with --arch.'
    if any(key.startswith('backbone.') for key in state):
        hint = 'Its keys start with "backbone.": it is in mmpretrain\'s form and loads as it is.'
    for other in set(SOURCES) - {source}:
        if SOURCES[other].detect(state):
            hint = f'It looks like a network of {SOURCES[other].title}: use the source "{other}".'
    raise CheckpointError(
        f'{path}: expected a network of {SOURCES[source].title} ({SOURCES[source].known}), but its '
        f'keys fit none of them. {hint}'
    )


def _count_classes(
    state: Mapping[str, Tensor], network: SourceNetwork, expected: int | None, path: Path
) -> int:
    """Rows of the linear head, checked against what the user expects."""
    key = network.source_key('head.fc.weight')
    weight = state.get(key)
    if weight is None or weight.dim() != 2 or len(weight) == 0:
        found = 'nothing' if weight is None else f'shape {tuple(weight.shape)}'
        raise CheckpointError(
            f'{path}: expected the head of {network.name} as {key!r} of shape '
            f'(classes, {network.channels}), but found {found}. '
            'Check --arch, or use a checkpoint of the whole classifier.'
        )
    if expected is not None and len(weight) != expected:
        raise CheckpointError(
            f'{path}: expected {expected} classes (--num-classes), but the head has {len(weight)}. '
            'Use a teacher trained on the same classes as your data.'
        )
    return len(weight)


def _rename(
    state: Mapping[str, Tensor], network: SourceNetwork, own: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Give a zoo's tensors the names of our classifier, whose state dict is ``own``.

    BN's batch counters, which files of old torch versions lack, start from zero.

    Raises:
        CheckpointError: Keys are missing or left over, or shapes differ.
    """
    table = {network.source_key(key): key for key in own}
    found = describe_misfits(
        {source: own[key] for source, key in table.items()}, state, optional=COUNTER
    )
    if found:
        raise CheckpointError(
            f'{path}: expected the {len(table)} entries of {network.name}, but found '
            f'{"; ".join(found)}. Check the source and --arch; a network that was changed before '
            'training needs its own backbone.'
        )
    return {
        key: state[source] if source in state else torch.zeros_like(own[key])
        for source, key in table.items()
    }
