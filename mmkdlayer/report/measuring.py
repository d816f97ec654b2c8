"""Sections 3 and 4 of the page: the geometry probe, the training's curves, and what the layers cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size

from mmkdlayer.engine.streamed_images import refuse_unreadable
from mmkdlayer.pipelines import fitting_dataloader_cfg

from .costs import REPEATS, count_costs, time_parts
from .curves import curves_view
from .geometry import INSTALL, ProbeRow, has_sklearn, pooled_features, probe, weakness
from .images import Images, loader_key
from .networks import Networks


def measure(
    networks: Networks, images: Images, work_dir: str | os.PathLike | None
) -> dict[str, Any]:
    """Section 4: curves of the log in a work dir, if there is one, and costs on the first batch."""
    batch = next(iter(images.stream.loader))
    refuse_unreadable(batch, ())
    inputs = networks.preprocessor(batch, False)['inputs']
    times: list[tuple[str, float]] = []
    if networks.supervised and hasattr(networks.algorithm, 'teacher') and get_world_size() > 1:
        # This process alone writes the report, and a SyncBN that trains would wait for the others.
        networks.notes.append(
            'The parts of a training step were not timed, since the training had several processes: the '
            'command report times them.'
        )
    elif networks.supervised and hasattr(networks.algorithm, 'teacher'):
        try:
            times = time_parts(networks, batch)
        except Exception as error:  # of any head or loss, as on images without labels
            why = f'{type(error).__name__}: {error}'
            networks.notes.append(f'The parts of a training step were not timed ({why}).')
    device = inputs.device
    return dict(
        curves=None if work_dir is None else curves_view(work_dir),
        costs=dict(
            parts=count_costs(networks, batch),
            size='x'.join(map(str, inputs.shape[1:])),
            times=times,
            total=sum(seconds for _, seconds in times),
            batch=len(inputs),
            repeats=REPEATS,
            device=(
                torch.cuda.get_device_name(device)
                if device.type == 'cuda'
                else f'{platform.machine()}, threads: {torch.get_num_threads()}'
            ),
        ),
    )


def probe_geometry(
    students: Sequence[tuple[str, Networks, Any]], most: int
) -> tuple[dict[str, Any] | None, list[str]]:
    """Section 3: the table, or None and why.

    Args:
        students: For each its name, its networks with their weights, and its config.
        most: Images of either kind, at most.
    """
    if not has_sklearn():
        return None, [f'The geometry probe (section 3) needs scikit-learn: {INSTALL}']
    rows: list[ProbeRow] = []
    notes = []
    for name, networks, cfg in students:
        if not networks.layers:
            continue
        try:
            train = Images(networks, fitting_dataloader_cfg(cfg), most)
            known = pooled_features(networks, train)
            tested = pooled_features(networks, Images(networks, cfg[loader_key(cfg)], most))
            found = probe(name, networks.layers, known, tested)
        except ValueError as error:  # an export without training data, no labels, too few images
            notes.append(f'No geometry probe (section 3) of {name}: {error}')
            continue
        rows += found
        channels = max(pair[0].shape[1] for pair in known[0].values())
        classes = len(set(known[1].tolist()))
        notes += filter(None, [weakness(len(known[1]), channels, classes)])
        sizes = dict(train=len(known[1]), test=len(tested[1]))
    return (dict(sizes, rows=rows) if rows else None), list(dict.fromkeys(notes))
