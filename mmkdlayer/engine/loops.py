"""A training loop by epochs that can go on within an epoch."""

from __future__ import annotations

from mmengine.runner import EpochBasedTrainLoop

from mmkdlayer.registry import LOOPS

from .partial_loading import without_first_batches


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
