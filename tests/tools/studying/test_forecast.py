from __future__ import annotations

import json
from pathlib import Path

from mmengine.config import Config

from studying.forecast import checkpoint_bytes, forecast
from studying.planning import plan
from studying.running import Board
from studying.study_file import read_study

STUDY = """
seeds = [0, 1, 2]
rows = dict(
    alone=dict(config='configs/ablation/resnet56_resnet20_cifar100_student.py'),
    letkd2=dict(config='configs/kdlayer/resnet56_resnet20_cifar100.py'))
"""


def test_time_is_known_from_the_logs_alone(tmp_path: Path) -> None:
    path, out = tmp_path / 'study.py', tmp_path / 'out'
    path.write_text(STUDY)
    tasks, settings = plan(read_study(path))
    lines = list(forecast(Board(out, tasks), settings, 2, True))
    assert lines[0].startswith('6 trainings, 0 of them done; 1 times fitting')
    assert (
        'time not known; 278.32 k parameters, 41.22 M FLOPs' in lines[1]
    )  # as in the page of pairs
    assert '914.81 k parameters, 81.96 M FLOPs (folded 81.33 M)' in lines[2]
    assert lines[3].startswith('time: not known; 6 trainings have none')
    assert not out.exists()

    # 4 of 240 epochs, each of 10 steps of 0.5 s; one run is done.
    scalars = out / 'runs' / 'alone' / 'seed0' / '20260101_000000' / 'vis_data' / 'scalars.json'
    scalars.parent.mkdir(parents=True)
    steps = [dict(loss=1.0, time=0.5, epoch=1 + s // 10, step=s + 1) for s in range(40)]
    scalars.write_text('\n'.join(map(json.dumps, [*steps, {'accuracy/top1': 1.0, 'step': 4}])))
    (out / 'runs/alone/seed0/result.json').write_text('{}')
    lines = list(forecast(Board(out, tasks), settings, 2, True))
    assert lines[0].startswith('6 trainings, 1 of them done')
    assert 'runs/alone: 2 of 3 to do, 240 epochs, 20 min each' in lines[1]
    assert lines[3].startswith('time: 20 min with 2 at once; 3 trainings have none')


def test_disk_is_that_of_the_kept_checkpoints() -> None:
    hook = dict(interval=10, max_keep_ckpts=3, save_best='auto')
    cfg = Config(
        dict(default_hooks=dict(checkpoint=hook), optim_wrapper=dict(optimizer=dict(type='AdamW')))
    )
    # Three and the best, each with two moments of each weight; and the exported student.
    assert checkpoint_bytes(cfg, 1000, 60, True) == 4 * 1000 * (4 * 3 + 1)
    assert checkpoint_bytes(cfg, 1000, 60, False) == 4 * 1000
    cfg.default_hooks.checkpoint = dict(interval=10)
    cfg.optim_wrapper.optimizer.type = 'SGD'
    assert checkpoint_bytes(cfg, 1000, 60, True) == 4 * 1000 * (6 * 2 + 1)
