"""A training that writes its report at its end, and figures on the way, is the same training."""

from __future__ import annotations

import io
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from command_line import Main, arguments, recording_config
from mmengine.config import Config
from PIL import Image
from training_probes import read_losses

from mmkdlayer.errors import ConfigError
from mmkdlayer.report import ReportHook


def test_the_training_is_the_same(images: Path, tmp_path: Path, main: Main) -> None:
    hook = "dict(type='mmkdlayer.ReportHook', figures=1, images=8, probe_images=30)"
    losses = []
    for number, more in enumerate((hook, '')):
        work = tmp_path / str(number)
        line = arguments(recording_config(tmp_path, hook=more), '--work-dir', work, data=images)
        code, errors = main('train.py', line)
        assert code == 0, errors
        losses.append(read_losses(work))
    assert losses[0] == losses[1]
    page = (tmp_path / '0' / 'report' / 'index.html').read_text()
    for words in ('before the training', '3. How well', 'accuracy/top1', '<th scope="row">images'):
        assert words in page
    assert not (tmp_path / '1' / 'report').exists()
    figures = sorted((tmp_path / '0').rglob('vis_image/*.png'))
    assert [figure.stem for figure in figures] == [
        *('kd_decisions_inter_1', 'kd_decisions_penult_1'),
        *('kd_templates_inter_1', 'kd_templates_penult_1'),
    ]
    pixels = np.asarray(Image.open(figures[0]))
    assert pixels.shape == (3 * 116 - 4, 3 * 116 - 4, 3)  # 3 classes; image, teacher, student


def test_tensorboard_has_the_figures(images: Path, tmp_path: Path, main: Main) -> None:
    reading = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator', reason='needs tensorboard'
    )
    hook = "dict(type='mmkdlayer.ReportHook', figures=2, images=8, probe_images=0)"
    backend = "visualizer = dict(vis_backends=[dict(type='TensorboardVisBackend')])"
    config = recording_config(tmp_path, backend, hook)
    work = tmp_path / 'work'
    options = dict(train_cfg__max_epochs=4, train_dataloader__batch_size=15)
    code, errors = main('train.py', arguments(config, '--work-dir', work, data=images, **options))
    assert code == 0, errors
    (events,) = work.rglob('events.out.tfevents.*')
    found = reading.EventAccumulator(str(events), {reading.IMAGES: 0, reading.SCALARS: 0})
    found.Reload()
    tags = [
        f'kd_{kind}_{name}' for kind in ('decisions', 'templates') for name in ('inter', 'penult')
    ]
    assert sorted(found.Tags()['images']) == tags
    for tag in tags:
        assert [event.step for event in found.Images(tag)] == [2, 4]
        figures = [Image.open(io.BytesIO(e.encoded_image_string)) for e in found.Images(tag)]
        assert all(figure.height == 3 * 116 - 4 for figure in figures)  # 3 classes
        assert all(np.asarray(figure).std() > 10 for figure in figures)
    # The losses are by iteration, two to an epoch.
    assert [event.step for event in found.Scalars('loss')] == list(range(1, 9))


def test_what_goes_wrong_is_a_warning(tmp_path: Path) -> None:
    logger = Mock()
    runner = Mock(model=torch.nn.Linear(1, 1), cfg=Config(), work_dir=str(tmp_path), logger=logger)
    ReportHook().after_train(runner)
    (message,) = logger.warning.call_args.args
    assert message.startswith('ReportHook: ') and not list(tmp_path.iterdir())


@pytest.mark.parametrize('options', [dict(images=0), dict(figures=-1), dict(probe_images='all')])
def test_wrong_options_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=f'ReportHook: {next(iter(options))} must be'):
        ReportHook(**options)
