"""For configs of tests: what writes every rank's losses down, and what ends a rank in mid-work."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from mmengine.runner import Runner


@HOOKS.register_module()
class LossRecorder(Hook):
    """Adds a line to ``<work_dir>/losses.<rank>.jsonl`` in each iteration."""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict
    ) -> None:
        images = [Path(s.img_path).stem + str(int(s.gt_label)) for s in data_batch['data_samples']]
        line = {name: float(value.detach()) for name, value in outputs.items() if 'loss' in name}
        line.update(iteration=runner.iter, batch=batch_idx, images=images)
        with open(Path(runner.work_dir, f'losses.{runner.rank}.jsonl'), 'a') as file:
            file.write(json.dumps(line) + '\n')


@HOOKS.register_module()
class SendSignal(Hook):
    """One rank sends itself and its data workers a signal after an iteration (counted from 0)."""

    def __init__(self, name: str, iteration: int, rank: int = 0) -> None:
        self.number = signal.Signals[name]
        self.iteration = iteration
        self.rank = rank

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if runner.rank == self.rank and runner.iter == self.iteration:
            for child in multiprocessing.active_children():
                os.kill(child.pid, self.number)
            os.kill(os.getpid(), self.number)


@TRANSFORMS.register_module()
class DieOnRank:
    """A transform that kills the process of one rank at the given image."""

    def __init__(self, rank: int, image: int) -> None:
        self.rank = rank
        self.left = image

    def __call__(self, results: dict) -> dict:
        self.left -= 1
        if self.left == 0 and os.environ['RANK'] == str(self.rank):
            os.kill(os.getpid(), signal.SIGKILL)
        return results


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
