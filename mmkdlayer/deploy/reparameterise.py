"""Makes the branches of RepVGG, MobileOne and their like one convolution, where the host can."""

from __future__ import annotations

import copy
import inspect

import torch
from mmengine.registry import MODELS
from torch import nn

from mmkdlayer.checkpoints import describe_misfits

#: Arguments by which networks of mmpretrain say that their branches are one.
FLAGS = ('deploy', 'small_kernel_merged')
PARTS = ('backbone', 'neck', 'head')


@torch.no_grad()
def reparameterise(model_cfg: dict, student: nn.Module) -> list[str]:
    """Merge the branches of a student's parts that have ``switch_to_deploy``, in place, its config too.

    A sentence for each part that can be merged: what became of it, or why it stays as it is.
    """
    return [
        f'{part} {_merge(part, model_cfg, student)}'
        for part in PARTS
        if hasattr(getattr(student, part, None), 'switch_to_deploy')
    ]


def _merge(part: str, model_cfg: dict, student: nn.Module) -> str:
    module = getattr(student, part)
    flag = next((f for f in FLAGS if f in inspect.signature(type(module)).parameters), None)
    if flag is None:
        return f'stays as it was trained: {type(module).__name__} has none of {", ".join(FLAGS)}'
    if model_cfg[part].get(flag):
        return 'was re-parameterised before'
    merged_cfg = {**model_cfg, part: {**model_cfg[part], flag: True}}
    try:
        trial = copy.deepcopy(module)
        trial.switch_to_deploy()
        # Refused where a KD layer is after a branch that would go.
        expected = getattr(MODELS.build(copy.deepcopy(merged_cfg)), part).state_dict()
    except Exception as error:  # of the host's class too: the student is whole without
        return f'stays as it was trained: {type(error).__name__}: {error}'
    misfits = describe_misfits(expected, trial.state_dict())
    if misfits:
        return f'stays as it was trained: {"; ".join(misfits)} after its switch_to_deploy'
    before, after = (sum(p.numel() for p in m.parameters()) for m in (module, trial))
    model_cfg[part][flag] = True
    # The same object, since the hooks of KD layers are on the modules in it.
    module.switch_to_deploy()
    return f'is re-parameterised: {before:,} parameters become {after:,}'
