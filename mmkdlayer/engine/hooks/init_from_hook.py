"""Begins a training with what fits of other weights."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdlayer.checkpoints import load_what_fits, read_student_weights
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS


@HOOKS.register_module()
class InitFromHook(Hook):
    """Loads into the student, before training, what fits of a checkpoint, and says what does not.

    For other numbers of classes or templates, and for fine-tuning: of published weights, all but the
    head fit. ``load_from`` accepts only weights of the same network. A training that is resumed has
    its own weights, and the file is not read.

    Args:
        checkpoint: A checkpoint of a training, an exported student or weights alone; a file or a URL.
    """

    # Before what may look at the weights.
    priority = 'HIGHEST'

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def before_train(self, runner: Runner) -> None:
        """Load.

        Raises:
            CheckpointError: The file can't be read, or nothing in it fits.
        """
        if runner._resume and runner._has_loaded:
            runner.logger.info(f'The training is resumed, so {self.checkpoint} is not read.')
            return
        model = unwrap_model(runner.model)
        state, _ = read_student_weights(self.checkpoint)
        found = load_what_fits(
            getattr(model, 'architecture', model), state, f'Checkpoint {self.checkpoint}'
        )
        runner.logger.info(
            f'Training begins with weights of {self.checkpoint}: {"; ".join(found)}.'
        )
