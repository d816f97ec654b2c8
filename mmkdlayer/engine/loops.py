"""A training loop by epochs that can be resumed within an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmkdlayer.registry import LOOPS

from .partial_loading import without_first_batches

#: In a message hub: epoch and iteration of the last validation. Names in 'val' are logged as metrics.
VALIDATED = 'last_validation'


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's EpochBasedTrainLoop; the epoch that it is resumed in starts after ``batches_done``.

    The sampler gives the same order again (it is seeded by the epoch), so that each image is seen once
    in the epoch; random augmentations are drawn anew.
    """

    #: Batches of the next epoch that were trained on before the interruption.
    batches_done = 0

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        done, self.batches_done = self.batches_done, 0
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        with without_first_batches(self.dataloader, done) as batches:
            for index, batch in enumerate(batches, start=done):
                self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def ends_epoch(runner: Runner, batch_idx: int) -> bool:
    """Whether an iteration, from 0 in its epoch, is the last one of that; False in other loops."""
    loop = runner.train_loop
    return isinstance(loop, EpochBasedTrainLoop) and batch_idx + 1 == len(loop.dataloader)


def is_finished(loop: Any) -> bool:
    """Whether a training loop has nothing left to do."""
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch >= loop.max_epochs
    return loop.iter >= loop.max_iters


def validates_after(runner: Runner, done: int) -> bool:
    """Whether validation follows when so many epochs, or iterations in such a loop, are done."""
    loop = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return False
    last = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)


def validate_where_interrupted(runner: Runner, ended_epoch: bool) -> None:
    """Validate a resumed training, if that is what follows the place where it was saved.

    A checkpoint is written before the validation, so that one that is killed between the two has none.
    It is written again after a validation that was the best so far, and says so. Loops that decide in
    their own way when to validate are left alone.

    Args:
        runner: Of the training, before its first iteration.
        ended_epoch: Whether the checkpoint was saved at the end of an epoch; for loops by epochs.
    """
    loop: Any = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    mmengines = EpochBasedTrainLoop.run if by_epoch else IterBasedTrainLoop.run
    done = loop.epoch if by_epoch else loop.iter
    if (
        getattr(type(loop), 'run', None) is not mmengines
        or not done
        or (by_epoch and not ended_epoch)
    ):
        return
    place = [loop.epoch, loop.iter]
    loop._decide_current_val_interval()
    if validates_after(runner, done) and runner.message_hub.runtime_info.get(VALIDATED) != place:
        runner.logger.info(f'Validating what is resumed (epoch {place[0]}, iteration {place[1]}).')
        runner.val_loop.run()


def place_in_epoch(loop: EpochBasedTrainLoop, done: int) -> dict[str, Any]:
    """Describe where an epoch was interrupted, after ``done`` batches, for :func:`resume_in_epoch`."""
    seed = getattr(getattr(loop.dataloader, 'sampler', None), 'seed', None)
    return dict(done=done, batches=len(loop.dataloader), seed=seed)


def resume_in_epoch(loop: Any, place: Any) -> str | None:
    """Let a loop start its epoch at a place; else say why the epoch has to be repeated."""
    if not isinstance(loop, ResumableEpochLoop):
        return f'the loop is a {type(loop).__name__}, not a ResumableEpochLoop'
    numbers = dict(place) if isinstance(place, Mapping) else {}
    done, batches, seed = (numbers.get(name) for name in ('done', 'batches', 'seed'))
    if type(done) is not int or type(batches) is not int or not 0 <= done < batches:
        return f'it does not say after which of its iterations ({place!r:.80})'
    if len(loop.dataloader) != batches:
        return f'an epoch has {len(loop.dataloader)} iterations now'
    loop.batches_done = done
    sampler: Any = getattr(loop.dataloader, 'sampler', None)
    if type(seed) is int and hasattr(sampler, 'seed'):
        sampler.seed = seed  # a config without a seed draws another one each time
    return None
