"""What an evaluation would fail on after the first epoch, found on some images before it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

import torch
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import Runner

from mmkdlayer.errors import ConfigError, KDLayerError
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.fitting.shortages import explain_shortage
from mmkdlayer.models.attach import suggest_names
from mmkdlayer.models.evaluating import evaluating

from .data_checks import check_batches
from .prepare_decisions import unchanged_randomness

#: Images of a trial.
MOST_IMAGES = 8


def check_evaluation(runner: Runner, name: str = 'val') -> None:
    """Run a loop of a runner on evenly spaced images, and compare the metrics with what asks for them.

    Metrics of mmpretrain are computed too; others may need all images, or write files. All ranks
    must call it; each looks at the same images. The loop is ``val`` or ``test``; without one there
    is nothing to check.

    Raises:
        ConfigError: It fails, or has no batch; or ``save_best``, or what a hook or scheduler monitors,
            is no metric.
    """
    loop: Any = getattr(runner, f'{name}_loop')
    if loop is None or not hasattr(loop.dataloader.dataset, '__getitem__'):
        return
    with errors_on_all_ranks():
        check_batches(loop.dataloader, f'{name}_dataloader')
        try:
            metrics = _evaluate(runner.model, loop)
        except Exception as error:
            if isinstance(error, (KDLayerError, OSError)) or explain_shortage(error):
                raise
            text = ' '.join(str(error).split())[:500].rstrip('.')
            raise ConfigError(
                f'The evaluation ({name}_dataloader, {name}_evaluator) was tried on some images before '
                f'it is needed, and failed: {type(error).__name__}: {text}. Correct what this is about '
                'in the config (--debug shows where it failed).'
            ) from error
        if metrics is None or name != 'val':
            return
        _check_best(runner, metrics)
        for place, wanted in _monitored(runner):
            if wanted not in metrics:
                raise ConfigError(
                    f'{place} is {wanted!r}, but the metrics of val_evaluator are '
                    f'{", ".join(metrics) or "none"}. {suggest_names(wanted, metrics)}'
                )


def _check_best(runner: Runner, metrics: dict[str, Any]) -> None:
    """Raise a ConfigError where ``save_best='auto'``, the first metric, can not tell what is better."""
    for hook in runner.hooks:
        if not (isinstance(hook, CheckpointHook) and hook.save_best == ['auto'] and metrics):
            continue
        first = next(iter(metrics))
        try:
            copy(hook)._init_rule(hook.rules, [first])
        except ValueError as error:
            raise ConfigError(
                f"CheckpointHook.save_best is 'auto', which takes the first metric, {first}, and "
                'mmengine can not tell which of its values are better. Name one of '
                f"{', '.join(metrics)}, or set default_hooks.checkpoint.rule='greater'."
            ) from error


@unchanged_randomness()
@torch.no_grad()
def _evaluate(model: Any, loop: Any) -> dict[str, Any] | None:
    """The metrics of some images; None where not all metrics are of mmpretrain."""
    data, metrics = loop.dataloader.dataset, loop.evaluator.metrics
    count = min(MOST_IMAGES, len(data), loop.dataloader.batch_size or 1)
    places = torch.linspace(0, len(data) - 1, count).long().tolist()
    batch = loop.dataloader.collate_fn([data[place] for place in places])
    with evaluating(model):
        samples = model.val_step(batch)
    if not all(type(metric).__module__.startswith('mmpretrain.') for metric in metrics):
        return None
    try:
        loop.evaluator.process(data_samples=samples, data_batch=batch)
        found = [(metric, metric.compute_metrics(metric.results)) for metric in metrics]
    finally:
        for metric in metrics:
            metric.results.clear()
    return {
        f'{metric.prefix}/{key}' if metric.prefix else key: value
        for metric, values in found
        for key, value in values.items()
    }


def _monitored(runner: Runner) -> Iterator[tuple[str, str]]:
    """The metrics that hooks and schedulers of a training ask for, each with who asks."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            names = hook.key_indicators
            yield from (('CheckpointHook.save_best', name) for name in names if name != 'auto')
        elif isinstance(hook, EarlyStoppingHook):
            yield 'EarlyStoppingHook.monitor', hook.monitor
    schedulers: Any = runner.param_schedulers or []
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    for scheduler in (one for group in groups for one in group):
        if isinstance(getattr(scheduler, 'monitor', None), str):
            yield f'{type(scheduler).__name__}.monitor', scheduler.monitor
