"""For configs of tests: a hook that writes every rank's losses down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class LossRecorder(Hook):
    """Adds a line to ``<work_dir>/losses.<rank>.jsonl`` in each iteration."""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict
    ) -> None:
        images = [Path(s.img_path).stem + str(int(s.gt_label)) for s in data_batch['data_samples']]
        line = {name: float(value) for name, value in outputs.items() if 'loss' in name}
        line.update(iteration=runner.iter, batch=batch_idx, images=images)
        with open(Path(runner.work_dir, f'losses.{runner.rank}.jsonl'), 'a') as file:
            file.write(json.dumps(line) + '\n')


def read_losses(work: Path, ranks: int = 1) -> list[dict]:
    """For each iteration, the mean of the ranks' losses, and all their images."""
    lines = [
        [json.loads(line) for line in (work / f'losses.{rank}.jsonl').read_text().splitlines()]
        for rank in range(ranks)
    ]
    joint = []
    for records in zip(*lines):
        assert len({record['iteration'] for record in records}) == 1
        line = {
            name: sum(record[name] for record in records) / ranks
            for name in records[0]
            if 'loss' in name
        }
        line.update({name: records[0][name] for name in ('iteration', 'batch')})
        joint.append(dict(line, images=sorted(i for record in records for i in record['images'])))
    return joint
