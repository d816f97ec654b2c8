"""Saves and ends when the scheduler asks for it, so that ``--resume`` goes on from there."""

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
from mmengine.dist import all_gather_object, barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmkdlayer.atomic import replacing
from mmkdlayer.engine.launch import timeout_of
from mmkdlayer.engine.loops import ResumableEpochLoop
from mmkdlayer.engine.signals import EXIT_CODE, SIGNALS, WATCH, ShieldedWorkerInit
from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import HOOKS

#: The checkpoint in the work dir; removed when a later one is there.
CHECKPOINT = 'interrupted.pth'


class Votes:
    """Lets all ranks learn of a wish of any rank in the same iteration, without waiting for a GPU.

    Each call starts a sum over the ranks, on the CPU (gloo), and gives the result of the one that the
    call before started; so a rank waits at most until the slowest one has come to the last call.

    Args:
        timeout: Seconds that a rank waits for another.
    """

    def __init__(self, timeout: float) -> None:
        self.group: Any = None
        self.pending: tuple[torch.Tensor, Any] | None = None
        if get_world_size() > 1:
            # Not through mmengine.dist, which has no asynchronous collectives.
            self.group = torch.distributed.new_group(
                backend='gloo', timeout=timedelta(seconds=timeout)
            )

    def cast(self, wish: bool) -> bool:
        """Say what this rank wishes; True once any rank had wished in the call before."""
        if self.group is None:
            return wish
        decided = False
        if self.pending is not None:
            votes, work = self.pending
            work.wait()
            decided = bool(votes)
        votes = torch.tensor(int(wish))
        work = torch.distributed.all_reduce(votes, group=self.group, async_op=True)
        self.pending = votes, work
        return decided

    def close(self) -> None:
        """End the last sum: nothing may run in the background when the process ends."""
        if self.pending is not None:
            self.pending[1].wait()
            self.pending = None
        if self.group is not None:
            torch.distributed.destroy_process_group(self.group)
            self.group = None


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Ends a training that gets a signal, with exit code 75, so that it can go on later.

    While it trains, all ranks finish the same iteration, the first saves ``interrupted.pth`` in the work
    dir and all end. It is an iteration that updated the weights and is not the last one of its epoch,
    nor, in a loop by iterations, one that validation follows (unless each one is): so validation and
    the epoch's own checkpoint are not left out. Before training (fitting) the process ends at once.

    Args:
        signals: Their names. None at all switches this off; resuming still works.
    """

    # After everything that belongs to an iteration.
    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = SIGNALS) -> None:
        self.numbers = [signal.Signals[name] for name in signals]
        self.watch = WATCH
        self.wanted = False
        self.put_off = False

    def before_run(self, runner: Runner) -> None:
        """Begin to watch."""
        names = [number.name for number in self.numbers]
        if names and not self.watch.start(names):
            self.numbers = []
            runner.logger.warning('PreemptionHook is off: signals reach the main thread alone.')

    def after_run(self, runner: Runner) -> None:
        """Stop watching."""
        self.watch.stop()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Find the place within the epoch, where the checkpoint was saved within one."""
        place = checkpoint.get('meta', {}).get('interrupted')
        if not runner._resume or not place:
            return
        loop = runner.train_loop
        epoch = checkpoint['meta']['epoch'] + 1
        where = f'epoch {epoch} after {place["done"]} of {place["batches"]} iterations'
        if not isinstance(loop, ResumableEpochLoop):
            reason = f'the loop is a {type(loop).__name__}, not a ResumableEpochLoop'
        elif len(loop.dataloader) != place['batches']:
            reason = f'an epoch has {len(loop.dataloader)} iterations now'
        else:
            loop.batches_done = place['done']
            sampler: Any = getattr(loop.dataloader, 'sampler', None)
            if place.get('seed') is not None and hasattr(sampler, 'seed'):
                sampler.seed = place['seed']  # a config without a seed draws another one each time
            runner.logger.info(f'Going on in {where}.')
            return
        runner.logger.warning(
            f'The checkpoint was saved in {where}, but {reason}: epoch {epoch} is begun anew.'
        )

    def before_train(self, runner: Runner) -> None:
        """From now on a signal is obeyed between two iterations.

        Raises:
            ConfigError: Ranks found different checkpoints to go on from.
        """
        places = all_gather_object((runner.epoch, runner.iter))
        if len(set(places)) > 1:
            raise ConfigError(
                'All processes must start at the same place, but their (epoch, iteration) are '
                f'{places}. --resume reads the checkpoint in each process: put the work dir '
                f'({runner.work_dir}) on a disk that all machines share.'
            )
        if not self.numbers:
            return
        loops = [runner.train_loop, runner.val_loop]
        loaders = [loop.dataloader for loop in loops if loop is not None]
        for loader in [loader for loader in loaders if isinstance(loader, DataLoader)]:
            loader.worker_init_fn = ShieldedWorkerInit(loader.worker_init_fn, self.numbers)
        if isinstance(runner.train_loop, IterBasedTrainLoop):  # has its workers already
            iterator = runner.train_loop.dataloader_iterator
            sampler = getattr(iterator._dataloader, 'sampler', None)
            if isinstance(sampler, InfiniteSampler):  # gave its first items to those workers
                sampler.indices = sampler._indices_of_rank()
            runner.train_loop.dataloader_iterator = type(iterator)(iterator._dataloader)
        self.votes = Votes(timeout_of(runner.cfg))
        self.watch.deferring = True

    def after_train(self, runner: Runner) -> None:
        """Nothing is left to save."""
        if self.watch.deferring:
            self.votes.close()
        self.watch.deferring = False

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Save and end, if any rank was asked to and this iteration is fit for it."""
        if not self.watch.deferring:
            return
        self.wanted = self.votes.cast(self.watch.received is not None) or self.wanted
        if not self.wanted or not self._updated(runner.optim_wrapper):
            return  # gradients that are being accumulated would be lost
        loop = runner.train_loop
        if not self.put_off and self._validation_follows(runner):
            self.put_off = True  # once: it may follow each iteration
            return
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        batches = len(loop.dataloader) if by_epoch else runner.max_iters
        done = batch_idx + 1 if by_epoch else runner.iter + 1
        if done < batches:
            seed = getattr(getattr(loop.dataloader, 'sampler', None), 'seed', None)
            place = dict(done=done, batches=batches, seed=seed)
            self._save(runner, dict(interrupted=place) if by_epoch else {})
            self._end(runner)

    @staticmethod
    def _updated(wrapper: Any) -> bool:
        """Whether the iteration updated all weights."""
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        return all(one.should_update() for one in wrappers)

    @staticmethod
    def _validation_follows(runner: Runner) -> bool:
        """Whether a loop by iterations validates between this one and the next."""
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop) or runner.val_loop is None:
            return False
        done = runner.iter + 1
        return done >= loop.val_begin and done % loop.val_interval == 0

    def after_train_epoch(self, runner: Runner) -> None:
        """Remove the checkpoint that a later one replaces."""
        path, last = Path(runner.work_dir, CHECKPOINT), Path(runner.work_dir, 'last_checkpoint')
        if not is_main_process() or not path.exists() or not last.exists():
            return
        if Path(last.read_text().strip()).name != CHECKPOINT:
            path.unlink()

    def _save(self, runner: Runner, meta: dict) -> None:
        if is_main_process():
            path = Path(runner.work_dir, CHECKPOINT)
            with replacing(path) as partial:
                runner.save_checkpoint(str(partial.parent), partial.name, meta=meta, by_epoch=False)
            with replacing(Path(runner.work_dir, 'last_checkpoint')) as partial:
                partial.write_text(str(path))
            name = (
                self.watch.received.name if self.watch.received else 'A signal to another process'
            )
            runner.logger.info(
                f'{name} received: saved {path} after iteration {runner.iter + 1}. Ending with exit '
                f'code {EXIT_CODE}; --resume goes on from here.'
            )

    def _end(self, runner: Runner) -> None:
        runner.visualizer.close()
        if self.votes.group is None:
            raise SystemExit(EXIT_CODE)
        # All at the same moment and without cleaning up: a launcher that sees the first one end kills
        # the others, whose exit codes would hide this one.
        logging.shutdown()
        barrier(self.votes.group)
        os._exit(EXIT_CODE)
