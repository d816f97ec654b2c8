"""What is said of errors in the code of host libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from line_training import Numbers, line_runner
from mmengine.config import Config
from mmengine.runner import set_random_seed
from torch.utils.data import DataLoader

from cli import build_runner
from cli.host_errors import explain_host_error, loader_of


def explained(call: Any, *args: Any, **options: Any) -> str | None:
    with pytest.raises(Exception) as info:  # noqa: PT011  (of any kind)
        call(*args, **options)
    return explain_host_error(info.value)


def test_the_host_its_values_and_its_words() -> None:
    text = str(explained(set_random_seed, 'abc'))
    assert text.startswith(
        'mmengine can not continue with what the config gives it: TypeError: Cannot'
    )
    assert "(in set_random_seed(seed='abc', deterministic=False" in text and '--debug' in text


def test_what_the_runner_refuses(tmp_path: Path) -> None:
    cfg = Config(dict(model=dict(), work_dir=str(tmp_path), val_dataloader=dict(batch_size=1)))
    assert 'ValueError: val_dataloader, val_cfg, and val_evaluator' in str(
        explained(build_runner, cfg)
    )


class Broken(Numbers):
    def __getitem__(self, index: int) -> torch.Tensor:
        raise ValueError('no such number')


@pytest.mark.parametrize('workers', [0, 1])
def test_the_loader_is_named(workers: int, tmp_path: Path) -> None:
    runner = line_runner(tmp_path, loader=dict(dataset=Broken(), num_workers=workers))
    with pytest.raises(ValueError) as info:  # noqa: PT011
        runner.train()
    assert loader_of(info.value) == 'train_dataloader'
    # In this process it is the fault of the user's class, which the traceback shows.
    text = explain_host_error(info.value)
    assert (text is None) == (workers == 0)
    assert text is None or ', for train_dataloader: ValueError: no such number (in' in text


def test_of_others_the_traceback_is_shown(tmp_path: Path) -> None:
    assert explained(int, 'a') is None
    assert explained(lambda: DataLoader(Broken())[0]) is None


@pytest.mark.parametrize('steps', [0, 3])
def test_in_the_middle_of_a_training_the_traceback_is_shown(steps: int, tmp_path: Path) -> None:
    runner = line_runner(tmp_path)

    def step(data: Any, optim_wrapper: Any) -> Any:
        if runner.iter == steps:
            set_random_seed('abc')  # type: ignore[arg-type]
        return dict(loss=torch.zeros(()))

    runner.model.train_step = step
    assert (explained(runner.train) is None) == (steps > 0)
