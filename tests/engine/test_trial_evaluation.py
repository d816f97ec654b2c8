"""An evaluation is tried before a training needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.runner import Runner

from mmkdlayer.engine.trial_evaluation import check_evaluation
from mmkdlayer.errors import ConfigError

TOP1 = dict(type='mmpretrain.Accuracy')


@METRICS.register_module()
class WholeMetric(BaseMetric):
    """One of others, which needs all images."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        raise AssertionError('asked for some images')

    compute_metrics = process  # type: ignore[assignment]


@pytest.fixture
def build(classifier_config: Callable[..., dict], tmp_path: Path) -> Callable[..., Runner]:
    """A Runner that validates a classifier of three classes, with changes."""

    def call(evaluator: Any = TOP1, **changes: Any) -> Runner:
        images = dict(type='SeededImages', length=9, pipeline=())
        sampler = dict(type='DefaultSampler')
        return Runner(
            model=classifier_config(),
            work_dir=str(tmp_path),
            default_scope='mmpretrain',
            experiment_name=tmp_path.name,
            val_dataloader=dict(batch_size=4, num_workers=0, dataset=images, sampler=sampler),
            val_cfg={},
            val_evaluator=evaluator,
            **changes,
        )

    return call


def saving(best: Any) -> dict:
    return dict(checkpoint=dict(type='CheckpointHook', save_best=best, rule='greater'))


def test_nothing_is_left_of_a_trial(build: Callable[..., Runner]) -> None:
    runner = build()
    before = torch.get_rng_state()
    check_evaluation(runner)
    assert torch.equal(torch.get_rng_state(), before)
    assert runner.model.training
    assert not runner.val_evaluator.metrics[0].results


def test_without_validation_there_is_nothing_to_try(tmp_path: Path) -> None:
    runner = Runner(model=torch.nn.Identity(), work_dir=str(tmp_path), experiment_name='none')
    check_evaluation(runner)


@pytest.mark.parametrize(
    ('evaluator', 'words'),
    [
        (dict(TOP1, topk=(1, 10)), r'\(val_dataloader, val_evaluator\).*Top-10 accuracy is unav'),
        (dict(type='mmpretrain.MultiLabelMetric', topk=(1,)), r'failed: \w+Error: '),
    ],
)
def test_what_would_fail(build: Callable[..., Runner], evaluator: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_evaluation(build(evaluator))


def test_metrics_of_others_are_not_asked(build: Callable[..., Runner]) -> None:
    check_evaluation(build([TOP1, dict(type='WholeMetric')], default_hooks=saving('whole')))


@pytest.mark.parametrize(
    ('hooks', 'words'),
    [
        (dict(default_hooks=saving('accuracy')), "save_best is 'accuracy'.*: accuracy/top1"),
        (dict(default_hooks=saving(['accuracy/top1', 'top5'])), "save_best is 'top5'"),
        (
            dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='loss', rule='less')]),
            "EarlyStoppingHook.monitor is 'loss'.* are accuracy/top1",
        ),
    ],
)
def test_metrics_that_nothing_gives(build: Callable[..., Runner], hooks: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_evaluation(build(**hooks))


def test_the_first_metric_may_have_no_best_value(build: Callable[..., Runner]) -> None:
    matrix = [dict(type='mmpretrain.ConfusionMatrix'), TOP1]
    hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='auto'))
    with pytest.raises(ConfigError, match="'auto', which takes the first metric, confusion_matrix"):
        check_evaluation(build(matrix, default_hooks=hooks))
    check_evaluation(build(matrix[::-1], default_hooks=hooks))


@pytest.mark.parametrize('best', ['auto', 'accuracy/top1', None])
def test_metrics_that_are_there(build: Callable[..., Runner], best: str | None) -> None:
    check_evaluation(build(default_hooks=saving(best)))
