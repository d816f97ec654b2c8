"""Small stores with made-up records."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from mmkdlayer.stored.files import make_fields
from mmkdlayer.stored.writing import Writer

IMAGES, VIEWS = 10, 2


def plan_of(folder: Path, **changes: Any) -> dict[str, Any]:
    content = b'tables'
    layers: dict[str, dict] = dict(
        inter=dict(templates=300, grid=[2, 3], top_k=None),
        penult=dict(templates=200, grid=[2, 2], top_k=3),
    )
    for name, layer in layers.items():
        path = folder / 'decisions' / f'{name}.safetensors'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        layer.update(file=f'decisions/{path.name}', bytes=len(content), sha256=digest)
    logits = dict(classes=70_000, top_k=2)
    facts = dict(images=IMAGES, views=VIEWS, shard_images=4, seed=1, kd_layers=layers)
    return dict(facts, logits=logits, fields=make_fields(layers, logits), **changes)


def records_of(record: np.dtype, view: int) -> np.ndarray:
    """Records of all images of a view, of random bytes."""
    rng = np.random.default_rng(view)
    return np.frombuffer(rng.bytes(IMAGES * record.itemsize), record)


def write_store(folder: Path) -> Path:
    """A store of these records."""
    writer = Writer(folder, plan_of(folder))
    writer.start()
    for shard in writer.pending():
        writer.save(shard, records_of(writer.record, shard.view)[shard.first :][: shard.images])
    writer.finish()
    return folder
