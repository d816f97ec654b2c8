"""Writes a report at the end of a training, and shows figures of it while it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdlayer.engine.prepare_decisions import unchanged_randomness
from mmkdlayer.errors import ConfigError
from mmkdlayer.models.wrappers import unwrap_model
from mmkdlayer.registry import HOOKS

from .collecting import collect
from .figures import decision_figure, template_figure
from .images import Images, loader_key
from .networks import Networks, networks_of_training
from .writing import ReportOptions, agreement_before, write_report

#: Images that figures are made of, at most.
FIGURE_IMAGES = 200


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes ``<work_dir>/report/index.html`` at the end of a training, as the command report does.

    It is of the weights of the last step. The main process alone runs the networks; what goes wrong
    here is a warning, and never ends a training. Random numbers of the training stay as they are.

    Args:
        images: Of the validation images, at most; None for all.
        figures: Epochs between two pairs of figures for mmengine's visualizer (TensorBoard and its
            other backends): what teacher and student see on images, and where templates fire. 0 for
            none.
        probe_images: Images of the geometry probe; 0 for none.
        out_dir: Where to write; None for ``<work_dir>/report``.

    Raises:
        ConfigError: An option is no whole number of 0 or more.
    """

    # After all others: decisions are fitted, and the last checkpoint is saved.
    priority = 'LOWEST'

    def __init__(
        self,
        images: int | None = 1000,
        figures: int = 0,
        probe_images: int = 2000,
        out_dir: str | None = None,
    ) -> None:
        for name, value in dict(images=images, figures=figures, probe_images=probe_images).items():
            fits = isinstance(value, int) and value >= (1 if name == 'images' else 0)
            if not fits and not (name == 'images' and value is None):
                raise ConfigError(
                    f'ReportHook: {name} must be a whole number, 0 or more (1 or more of images), but '
                    f'got {value!r}.'
                )
        self.images, self.figures, self.probe_images = images, figures, probe_images
        self.out_dir = out_dir
        self._before: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Measure the agreement with the teacher, unless the training is resumed."""
        if runner.iter == 0:
            self._run(runner, self._measure)

    def after_train_epoch(self, runner: Runner) -> None:
        """Hand figures to the visualizer."""
        if self.figures and self.every_n_epochs(runner, self.figures):
            self._run(runner, self._show)

    def after_train(self, runner: Runner) -> None:
        """Write the report."""
        self._run(runner, self._write)

    def _run(self, runner: Runner, act: Any) -> None:
        if not is_main_process():
            return
        try:
            with unchanged_randomness(), torch.no_grad():
                act(runner, networks_of_training(unwrap_model(runner.model), runner.cfg))
        except Exception as error:  # of any data set or network: the training is what counts
            runner.logger.warning(f'ReportHook: {type(error).__name__}: {error}')

    def _measure(self, runner: Runner, networks: Networks) -> None:
        self._before = agreement_before(networks, runner.cfg)

    def _show(self, runner: Runner, networks: Networks) -> None:
        images = Images(networks, runner.cfg[loader_key(runner.cfg)], FIGURE_IMAGES)
        findings = collect(networks, images, examples=1)
        for name in findings.layers:
            for kind, figure in (('decisions', decision_figure), ('templates', template_figure)):
                picture = figure(findings, name)
                runner.visualizer.add_image(f'kd_{kind}_{name}', picture, step=runner.epoch + 1)

    def _write(self, runner: Runner, networks: Networks) -> None:
        folder = Path(self.out_dir or os.path.join(runner.work_dir, 'report'))
        options = ReportOptions(
            self.images, probe_images=self.probe_images, work_dir=runner.work_dir
        )
        name = Path(runner.cfg.filename or runner.work_dir).stem
        facts = {'config': Path(runner.cfg.filename or '–').name, 'iterations': f'{runner.iter:,}'}
        with torch.enable_grad():  # a step is timed
            path = write_report(networks, runner.cfg, folder, name, facts, options, self._before)
        runner.logger.info(f'Report: {path}')
