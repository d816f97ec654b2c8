"""One process of the training command on two simulated devices, under NCCL's rules.

    python rank_worker.py FOLDER RANK ARGUMENTS_OF_TRAIN...

Writes FOLDER/collectives.<rank>.jsonl, each line a collective, and FOLDER/events.<rank>.json.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

from command_line import load_tool
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmkdlayer.models.connectors import memory_efficient
from simulated_cuda.collectives import nccl_rules
from simulated_cuda.device import SimulatedCuda

warnings.simplefilter('ignore')
folder, rank = Path(sys.argv[1]), int(sys.argv[2])
cuda = SimulatedCuda(devices=2)


@HOOKS.register_module()
class WriteEvents(Hook):
    """Writes what has happened on the device so far, by iteration: the process may end at once."""

    priority = 'ABOVE_NORMAL'

    def before_run(self, runner: Runner) -> None:
        self.events = {}

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        self.events[runner.iter] = [e for e in cuda.found('mix', 'sync', 'copy') if e.where]
        (folder / f'events.{rank}.json').write_text(json.dumps(self.events))


def main() -> None:
    """Train."""
    memory_efficient.MIN_SCORES = 0
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    with cuda, nccl_rules(cuda, folder / f'collectives.{rank}.jsonl') as ledger:
        sys.argv = ['train.py', *sys.argv[3:]]
        load_tool('train').main()
        ledger.write('end')


if __name__ == '__main__':
    main()
