"""Lets a training be ended at any moment, so that ``--resume`` continues from there."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmkdlayer.atomic import remove_leftovers
from mmkdlayer.engine.loops import (
    VALIDATED,
    ends_epoch,
    is_finished,
    place_in_epoch,
    resume_in_epoch,
    validate_where_interrupted,
    validates_after,
)
from mmkdlayer.engine.resuming import load_optimizer, not_resumable, saved_schedules, settings
from mmkdlayer.engine.saving import INTERRUPTED, keep_until_replaced, name_last_checkpoint
from mmkdlayer.engine.signals import SIGNALS, WATCH
from mmkdlayer.engine.worker_shield import shield_workers
from mmkdlayer.errors import CheckpointError, ConfigError
from mmkdlayer.registry import HOOKS


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Ends a training that gets a signal, with exit code 75, so that it can be resumed later.

    While it trains, all ranks finish the same iteration, the first saves ``interrupted.pth`` in the work
    dir and all end. It is an iteration that updated the weights and is not the last one of its epoch,
    nor, in a loop by iterations, one that validation follows (unless each one is): so validation and
    the epoch's own checkpoint are not left out. Before training (fitting) the process ends at once.
    Ctrl-C does the same with exit code 130; a second one ends the process at once.

    A training that is killed can be resumed too: mmengine's CheckpointHooks remove old checkpoints
    after the new one is there, what a killed process left half written in the work dir is removed, and
    the validation that follows the checkpoint is run first, since it may be missing.

    Args:
        signals: Their names. None at all switches this off, Ctrl-C included; resuming still works.
    """

    # After everything that belongs to an iteration.
    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = SIGNALS) -> None:
        self.numbers = [signal.Signals[name] for name in signals]
        self.group: Any = None  # of all ranks, on the CPU: nobody waits for a GPU
        self.ended_epoch = False  # in the checkpoint that is resumed from

    def before_run(self, runner: Runner) -> None:
        """Begin to watch; make the checkpoints safe."""
        keep_until_replaced(runner)
        if is_main_process():
            remove_leftovers(runner.work_dir)
        if self.numbers and not WATCH.start([number.name for number in self.numbers]):
            self.numbers = []
            runner.logger.warning('PreemptionHook is off: only the main thread receives signals.')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Find the place within the epoch, where the checkpoint was saved within one.

        Raises:
            CheckpointError: It is to be resumed from, and has no state of a training.
        """
        if not runner._resume:
            return
        problem = not_resumable(checkpoint)
        stated = settings(runner) if not problem and 'optimizer' in checkpoint else {}
        if stated:
            problem = load_optimizer(runner.optim_wrapper, checkpoint['optimizer'])
        if problem:
            raise CheckpointError(
                f'The checkpoint to resume from {problem}. Take one that a training has saved. To '
                'begin a new training with its weights, leave --resume out and add --cfg-options '
                'load_from=FILE.'
            )
        if stated:
            self._warn_of_unread_settings(runner, stated, saved_schedules(checkpoint))
        # At the end of an epoch its number has been counted up, but not in what is known of it.
        trained = checkpoint['message_hub']['runtime_info'].get('epoch')
        self.ended_epoch = trained == checkpoint['meta']['epoch'] - 1
        place = checkpoint['meta'].get('interrupted')
        if place is None:
            return
        epoch = f'epoch {checkpoint["meta"]["epoch"] + 1}'
        problem = resume_in_epoch(runner.train_loop, place)
        if problem is None:
            done, batches = place['done'], place['batches']
            runner.logger.info(f'Resuming in {epoch} after {done} of {batches} iterations.')
        else:
            runner.logger.warning(
                f'The checkpoint was saved within {epoch}, but {problem}: {epoch} is repeated.'
            )

    def _warn_of_unread_settings(self, runner: Runner, stated: Any, schedules: Any) -> None:
        """Say what of the config is not used, since the checkpoint has the same with other values."""
        used = {**settings(runner), **schedules}
        others = [
            f'{name}={stated.get(name)!r:.60} (in the checkpoint {used.get(name)!r:.60})'
            for name in sorted(stated.keys() | used.keys())
            if stated.get(name) != used.get(name)
        ]
        if others:
            runner.logger.warning(
                'A resumed training continues with the optimiser and schedules of its checkpoint, so '
                f'this of the config is not used: {"; ".join(others)}. To use it, begin a new training '
                'with these weights: --init-from FILE, without --resume.'
            )

    def before_train(self, runner: Runner) -> None:
        """From now on a signal is obeyed between two iterations.

        Raises:
            ConfigError: Ranks found different checkpoints to resume from.
        """
        check_same_place(runner)
        loop: Any = runner.train_loop
        if runner._resume and is_finished(loop):
            runner.logger.warning(
                f'Nothing is left to train: the checkpoint is that of the end (iteration {loop.iter}).'
            )
        if self.numbers:
            shield_loops(runner)
            if get_world_size() > 1:
                options = (runner.cfg.get('env_cfg') or {}).get('dist_cfg') or {}
                wait = timedelta(seconds=options['timeout']) if options.get('timeout') else None
                self.group = torch.distributed.new_group(backend='gloo', timeout=wait)
        if runner._resume:
            validate_where_interrupted(runner, self.ended_epoch)
        if self.numbers:
            WATCH.deferring = True

    def before_val(self, runner: Runner) -> None:
        """Let checkpoints that are written after the validation tell of it."""
        runner.message_hub.update_info(VALIDATED, [runner.epoch, runner.iter])

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Save and end, if any rank was asked to and this iteration is fit for it."""
        if not WATCH.deferring:
            return
        votes = torch.tensor(int(WATCH.received is not None))
        all_reduce(votes, group=self.group)
        if not votes or not all_weights_updated(runner) or validation_follows(runner):
            return  # gradients that are being accumulated would be lost
        if ends_epoch(runner, batch_idx) or self.is_last_train_iter(runner):
            return
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        meta = dict(interrupted=place_in_epoch(loop, batch_idx + 1)) if by_epoch else {}
        save_interrupted(runner, meta)
        end_all_ranks(runner, self.group)

    def after_train(self, runner: Runner) -> None:
        """Nothing is left to save."""
        WATCH.deferring = False

    def after_run(self, runner: Runner) -> None:
        """Stop watching."""
        WATCH.stop()


def shield_loops(runner: Runner) -> None:
    """Let the data workers of a runner's loops ignore the signals."""
    loop: Any = runner.train_loop
    for each in (loop, runner.val_loop):
        shield_workers(getattr(each, 'dataloader', None), WATCH.numbers)
    if isinstance(loop, IterBasedTrainLoop):  # has started its workers already
        sampler: Any = loop.dataloader.sampler
        if isinstance(sampler, InfiniteSampler):  # gave its first items to those workers
            sampler.indices = sampler._indices_of_rank()
        loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)


def check_same_place(runner: Runner) -> None:
    """Raise a ConfigError where ranks would start in different iterations."""
    places = all_gather_object((runner.epoch, runner.iter))
    if len(set(places)) > 1:
        raise ConfigError(
            'All processes must start at the same place, but their (epoch, iteration) are '
            f'{places}. --resume reads the checkpoint in each process: put the work dir '
            f'({runner.work_dir}) on a disk that all machines share.'
        )


def all_weights_updated(runner: Runner) -> bool:
    """Whether the iteration updated the weights, with every optimiser."""
    wrapper: Any = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return all(one.should_update() for one in wrappers)


def validation_follows(runner: Runner) -> bool:
    """Whether a loop by iterations validates between this iteration and the next, and only there."""
    loop = runner.train_loop
    by_iterations = isinstance(loop, IterBasedTrainLoop) and loop.val_interval > 1
    return by_iterations and validates_after(runner, runner.iter + 1)


def save_interrupted(runner: Runner, meta: dict[str, Any]) -> None:
    """Save the checkpoint of an interruption, with ``meta``, as the last one; done by the first rank."""
    if not is_main_process():
        return
    path = Path(runner.work_dir, INTERRUPTED)
    runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
    name_last_checkpoint(runner.work_dir, path)
    name = WATCH.received.name if WATCH.received else 'Signal to another process'
    runner.logger.info(
        f'{name} received: saved {path} after iteration {runner.iter + 1}. Ending with exit code '
        f'{WATCH.exit_code}; --resume continues from here.'
    )


def end_all_ranks(runner: Runner, group: Any) -> None:
    """End the process with the exit code of the signal, once every rank is here."""
    runner.visualizer.close()
    if group is None:
        raise SystemExit(WATCH.exit_code)
    # All at the same moment and without cleaning up: a launcher that sees the first one end kills
    # the others, whose exit codes would hide this one.
    logging.shutdown()
    barrier(group)
    os._exit(WATCH.exit_code)
