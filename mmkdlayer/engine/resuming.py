"""What a training is resumed from: whether a checkpoint has it, and what of the config it overrules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from mmengine.optim import OptimWrapperDict

#: What of a scheduler changes as training continues.
_MOVING = {
    *('optimizer', 'last_step', 'base_values', 'verbose', '_global_step', '_last_value'),
    *('best', 'cooldown_counter', 'num_bad_epochs'),
}


def not_resumable(checkpoint: Any) -> str | None:
    """Why a training can't be resumed from what a checkpoint holds, as the rest of a sentence."""
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get('state_dict'), Mapping):
        return 'holds no state_dict'
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    if not isinstance(meta, Mapping):
        return 'holds no meta, which says how far the training was'
    for name in ('epoch', 'iter'):
        if type(meta.get(name)) is not int or meta[name] < 0:
            return f'has meta[{name!r}]={meta.get(name)!r:.80}, where a number of at least 0 is expected'
    parts = ('log_scalars', 'runtime_info', 'resumed_keys')
    if not isinstance(hub, Mapping) or not all(isinstance(hub.get(p), Mapping) for p in parts):
        return f'holds no message_hub (with {", ".join(parts)}), which a training checkpoint has'
    if not isinstance(checkpoint.get('optimizer', {}), Mapping):
        return 'holds an optimizer that is no state'
    try:
        saved_schedules(checkpoint)
    except (TypeError, ValueError):
        return 'holds param_schedulers that are no states'
    return None


def load_optimizer(wrapper: Any, state: Any) -> str | None:
    """Load the state of an optimiser, which stays as it is, or say why it is that of another.

    The answer is the rest of a sentence.
    """
    try:
        if isinstance(wrapper, OptimWrapperDict):
            problems = (load_optimizer(one, state[name]) for name, one in wrapper.items())
            return next(filter(None, problems), None)
        wrapper.load_state_dict(dict(state))
        optimizer = wrapper.optimizer
        lost = {
            name for group in optimizer.param_groups for name in optimizer.defaults.keys() - group
        }
        problem = f'options {sorted(lost)} are missing' if lost else ''
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f'{type(error).__name__}: {error}'
    return (
        f'has the state of another optimiser than the config makes ({problem})' if problem else None
    )


def settings(runner: Any) -> dict[str, Any]:
    """The options of the optimisers and schedules of a runner, by dotted name."""
    wrapper = runner.optim_wrapper
    single = not isinstance(wrapper, OptimWrapperDict)
    found = {}
    for name, one in [('', wrapper)] if single else wrapper.items():
        for group in reversed(one.optimizer.param_groups):
            for key, value in group.items():
                if key != 'params' and not key.startswith('initial_'):
                    # As it was before any schedule.
                    value = group.get(f'initial_{key}', value)
                    found[f'optimizer.{name and f"{name}."}{key}'] = value
    return {**found, **_schedule_settings(runner.param_schedulers, vars)}


def saved_schedules(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the schedules in a checkpoint, which mmengine loads whole."""
    return _schedule_settings(checkpoint.get('param_schedulers'), dict)


def _schedule_settings(schedules: Any, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    groups = schedules if isinstance(schedules, Mapping) else {'': schedules}
    return {
        f'param_scheduler.{name and f"{name}."}{index}.{key}': value
        for name, group in groups.items()
        for index, one in enumerate(group or ())
        for key, value in read(one).items()
        if key not in _MOVING
    }
