"""Refuses checkpoints that do not fit the teacher or the student."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import HOOKS


def compare_weights(own: dict[str, Tensor], found: dict[str, Any]) -> list[str]:
    """What is wrong with a state dict, in phrases that name examples; extra entries do not matter.

    Args:
        own: The state dict of the model.
        found: That of the checkpoint.
    """
    own = {key: value for key, value in own.items() if not key.endswith('num_batches_tracked')}
    missing = [key for key in own if key not in found]
    shapes = [key for key in own if key in found and found[key].shape != own[key].shape]
    problems = []
    if missing:
        problems.append(f'{len(missing)} of {len(own)} entries are missing, such as {missing[0]}')
    if shapes:
        key = shapes[0]
        problems.append(
            f'{len(shapes)} have another shape, such as {key}, which is {tuple(found[key].shape)} in '
            f'the checkpoint and {tuple(own[key].shape)} in the model'
        )
    return problems


def check_teacher_checkpoint(teacher: nn.Module, path: str) -> None:
    """Raise a ConfigError where the teacher's checkpoint is not the teacher's.

    mmengine loads what fits and only logs the rest, so a wrong file would leave a random teacher.
    """
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    state = checkpoint.get('state_dict', checkpoint)
    state = {key[7:] if key.startswith('module.') else key: value for key, value in state.items()}
    problems = compare_weights(teacher.state_dict(), state)
    if problems:
        raise ConfigError(
            f'Teacher checkpoint {path} does not fit the teacher ({type(teacher).__name__}): '
            f'{"; ".join(problems)}. Give the checkpoint of this network, or the network of this '
            'checkpoint.'
        )


@HOOKS.register_module()
class CheckWeightsHook(Hook):
    """Stops a training that would start from weights of another network.

    Checked are the teacher's checkpoint (``model.teacher_ckpt``) and, on resuming, the student's.
    """

    # Before FitDecisionsHook: nothing is fitted on a wrong teacher.
    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Compare the teacher with the file that it was loaded from."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'teacher'):
            return
        path = runner.cfg.get('model', {}).get('teacher_ckpt')
        if path:
            check_teacher_checkpoint(model.teacher, path)
        else:
            runner.logger.warning(
                'The teacher has no checkpoint (model.teacher_ckpt): unless its config loads weights, '
                'it is untrained, and there is nothing to learn from it.'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the student with the checkpoint that training resumes from."""
        if not runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        student = {k: v for k, v in model.state_dict().items() if not k.startswith('teacher.')}
        problems = compare_weights(student, checkpoint.get('state_dict', {}))
        if problems:
            raise ConfigError(
                f'The checkpoint to resume from does not fit this config: {"; ".join(problems)}. It is '
                'of another training; resume with its config, or choose another work dir.'
            )
