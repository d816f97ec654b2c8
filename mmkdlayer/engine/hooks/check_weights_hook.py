"""Refuses checkpoints that do not fit the teacher or the student."""

from __future__ import annotations

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmkdlayer.checkpoints import STUDENT_PREFIX, check_content, describe_lacks, read_state_dict
from mmkdlayer.engine.teachers import Teacher, find_teachers, loads_weights
from mmkdlayer.errors import CheckpointError, ConfigError
from mmkdlayer.models.teachers import TeacherModule
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS
from mmkdlayer.type_names import type_name


def check_teacher(teacher: Teacher) -> None:
    """Compare a teacher with the files that its config loads, by ``teacher_ckpt`` or an ``init_cfg``.

    Raises:
        CheckpointError: One does not fit.
    """
    if teacher.checkpoint:
        check_teacher_checkpoint(teacher.model, teacher.checkpoint)
    else:
        _check_pretrained(teacher.model)


def _check_pretrained(module: nn.Module) -> None:
    """Compare a network, or its parts, with what their ``init_cfg`` has loaded."""
    options = getattr(module, 'init_cfg', None) or []
    options = options if isinstance(options, (list, tuple)) else [options]
    loaded = [o for o in options if type_name(o.get('type')) in ('Pretrained', 'PretrainedInit')]
    for option in loaded:
        check_teacher_checkpoint(module, option['checkpoint'], option.get('prefix') or '')
    if not loaded:  # else mmengine leaves the parts as they are
        for part in module.children():
            _check_pretrained(part)


def check_teacher_checkpoint(teacher: nn.Module, path: str, prefix: str = '') -> None:
    """Raise a CheckpointError where the teacher's checkpoint is not the teacher's.

    mmengine loads what fits and only logs the rest, so a wrong file would leave a random teacher.
    ``prefix`` is before the names in the file of a part of the teacher.
    """
    state, _ = read_state_dict(path)
    if prefix:
        prefix = f'{prefix.rstrip(".")}.'
        state = {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}
    own = teacher.state_dict()
    problems = describe_lacks(own, state)
    if problems:
        module = isinstance(teacher, TeacherModule)
        advice = 'teacher_ckpt is for models of mmpretrain; here give weights=FILE of the module.'
        raise CheckpointError(
            f'Teacher checkpoint {path} does not fit the teacher ({type(teacher).__name__}): '
            f'{"; ".join(problems)}. {advice if module else _explain_misfits(own, state, path)}'
        )


def _explain_misfits(own: dict[str, Tensor], found: dict[str, Tensor], path: str) -> str:
    """What the file probably is, and what to do."""
    shared = [key for key in own if key in found]
    if not shared and any(key.startswith(STUDENT_PREFIX) for key in found):
        return (
            'It is the checkpoint of a distillation, with a student inside. To use that student as the '
            f'teacher, export it first: python -m mmkdlayer export_student CONFIG {path} --out DIR; '
            'then give DIR/student.pth, and the model of DIR/student.py as model.teacher.'
        )
    others = [key for key in shared if found[key].shape != own[key].shape]
    heads = {key.rpartition('.')[0] for key in others}
    if not describe_lacks({key: own[key] for key in own if key not in others}, found) and all(
        key.startswith('head.') and found[key].shape[1:] == own[key].shape[1:] for key in others
    ):
        classes = len(found[others[0]]), len(own[others[0]])
        return (
            f'It is of this network, but its head ({", ".join(sorted(heads))}) is for {classes[0]} '
            f'classes, and that of the config, for your data, has {classes[1]}. Fine-tune it first: '
            f'python -m mmkdlayer train CONFIG_OF_THE_TEACHER --init-from {path} trains a teacher that '
            'begins with all of it but the head; give the checkpoint of that training.'
        )
    if shared:
        return 'Give the checkpoint of this network, or the network of this checkpoint as model.teacher.'
    return (
        'Give the checkpoint of this network, or the network of this checkpoint; one of the CRD zoo or '
        'of torchvision is converted first, by python -m mmkdlayer convert_teacher.'
    )


@HOOKS.register_module()
class CheckWeightsHook(Hook):
    """Stops a training that would start from weights of another network.

    Checked are the teacher's checkpoint (``model.teacher_ckpt``) and the student's, on resuming and
    with ``load_from``. A teacher without a checkpoint is allowed, with a warning.
    """

    # Before FitDecisionsHook: nothing is fitted on a wrong teacher.
    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Compare each teacher with the file that it was loaded from."""
        for teacher in _teachers(runner):
            check_teacher(teacher)
        _warn_of_untrained_teachers(runner, 'the student learns from random weights')

    def after_train(self, runner: Runner) -> None:
        """Say again what must not be overlooked."""
        # In other words: mmengine logs a warning once.
        _warn_of_untrained_teachers(runner, 'the student has learned from random weights')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the student with the checkpoint that training starts from; say what it lacks.

        Raises:
            CheckpointError: It is no checkpoint, or its weights are no numbers.
            ConfigError: It is of another network.
        """
        check_content(checkpoint, 'The checkpoint to start from', ('state_dict', 'ema_state_dict'))
        state = checkpoint.get('state_dict', checkpoint)
        own = unwrap_model(runner.model).state_dict()
        student = {key: value for key, value in own.items() if not key.startswith('teacher.')}
        problems = describe_lacks(student, state)
        shared = {key: value for key, value in student.items() if key in state}
        # load_from may bring a part of the weights, but of this network.
        if problems and (runner._resume or not shared or describe_lacks(shared, state)):
            raise ConfigError(
                f'The checkpoint to start from does not fit this config: {"; ".join(problems)}. It is '
                'of another training; use its config, or another checkpoint. To begin a new training '
                'with what fits of it: --init-from FILE, without --resume and load_from.'
            )
        averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        if runner._resume and 'ema_state_dict' in checkpoint and not averages:
            runner.logger.warning(
                f'The weights of {runner._load_from} are averages, of an EMAHook that this config does '
                'not have: training continues from them, not from those of its last step. To continue '
                "that training, add custom_hooks=[dict(type='EMAHook')] as it was there."
            )
        if runner._resume and 'optimizer' not in checkpoint:
            runner.logger.warning(
                f'{runner._load_from} holds no state of the optimiser: training continues with its '
                'weights with a new one, and the result is another than without the interruption. '
                'Resume from a checkpoint that has it, such as epoch_N.pth, where there is one.'
            )


def _warn_of_untrained_teachers(runner: Runner, effect: str) -> None:
    for teacher in _teachers(runner):
        if teacher.checkpoint or loads_weights(teacher.config):
            continue
        name, fix = '', '--cfg-options model.teacher_ckpt=FILE'
        if teacher.name:
            name = f' "{teacher.name}"'
            fix = 'checkpoints of a TeacherGroup, ckpt_path of a data-free teacher'
        if isinstance(teacher.model, TeacherModule):
            fix = 'weights of the TeacherModule: True for published ones, or a file'
        runner.logger.warning(
            f'THE TEACHER{name} IS UNTRAINED: it has no checkpoint, so {effect}. Set {fix}.'
        )


def _teachers(runner: Runner) -> list[Teacher]:
    return find_teachers(unwrap_model(runner.model), runner.cfg.get('model') or {})
