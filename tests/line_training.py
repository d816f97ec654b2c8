"""A training by mmengine's Runner with as little as it needs: one number in, two linear layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmkdlayer.engine.loops import ResumableEpochLoop  # noqa: F401  (registers it)


class Numbers(Dataset):
    """0, 1, 2, ... as images."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index)])


class Line(BaseModel):
    """Notes the numbers of each iteration; trained by one optimiser, or by two."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(1, 1)
        self.second = torch.nn.Linear(1, 1)
        self.seen: list[list[int]] = []

    def forward(self, inputs: torch.Tensor, mode: str = 'tensor') -> Any:
        return dict(loss=self.second(self.first(inputs)).mean())

    def train_step(self, data: Any, optim_wrapper: Any) -> dict:
        inputs = torch.stack(list(data))
        self.seen.append(inputs.flatten().int().tolist())
        if not isinstance(optim_wrapper, OptimWrapperDict):
            optim_wrapper.update_params(self(inputs)['loss'])
        else:
            for wrapper in optim_wrapper.values():
                wrapper.update_params(self(inputs)['loss'])
        return dict(loss=torch.tensor(0.0))

    def val_step(self, data: Any) -> list:
        return [None]


class QuickRunner(Runner):
    """Starts no programs to find out about the machine."""

    def _log_env(self, env_cfg: dict) -> None:
        pass


def line_runner(work: Path, **changes: Any) -> Runner:
    """A runner of 8 iterations an epoch; ``changes`` are those of its arguments.

    Args:
        work: Its work dir.
        **changes: ``loader`` are changes of the training's loader; ``val`` validates too.
    """
    model = Line()
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=Numbers(),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='pseudo_collate'),
    )
    settings: dict[str, Any] = dict(
        model=model,
        work_dir=str(work),
        train_dataloader=dict(loader, **changes.pop('loader', {})),
        train_cfg=dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=1),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)),
        default_hooks=dict(checkpoint=None, logger=None),
        default_scope='mmpretrain',
        log_level='ERROR',
        experiment_name=str(work).replace('/', '_'),  # names the message hub, too
    )
    if changes.pop('val', False):
        settings.update(val_dataloader=loader, val_cfg=dict(), val_evaluator=Evaluator([]))
    return QuickRunner(**{**settings, **changes})
