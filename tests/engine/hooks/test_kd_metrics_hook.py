"""Metrics of the templates against plain loops, and when they are computed."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, Callable

import pytest
import torch

from mmkdlayer.engine.hooks import KDMetricsHook
from mmkdlayer.engine.hooks import kd_metrics_hook as module
from mmkdlayer.engine.loops import ResumableEpochLoop
from mmkdlayer.models import CentroidDecision, KDLayerConnector, TeacherDecisionLoss


@pytest.mark.parametrize('chunk', [1, 1 << 20])
def test_assignments_against_loops(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'CHUNK', chunk)
    decision = CentroidDecision.from_tables(torch.randn(6, 3))
    scores, feature = 2 * torch.randn(4, 6, 2, 2), torch.randn(4, 3, 4, 4)
    found = module.assignment_metrics(TeacherDecisionLoss(decision), scores, feature)
    target = decision.decide(feature, size=(2, 2)).permute(0, 2, 3, 1).reshape(-1, 6).tolist()
    rows = scores.permute(0, 2, 3, 1).reshape(-1, 6).tolist()
    agreeing = sum(p.index(max(p)) == s.index(max(s)) for p, s in zip(target, rows)) / len(rows)
    student = [[math.exp(x) / math.fsum(map(math.exp, s)) for x in s] for s in rows]

    def perplexity(distributions: list) -> float:
        mean = [math.fsum(column) / len(rows) for column in zip(*distributions)]
        return math.exp(-math.fsum(m * math.log(m) for m in mean if m > 0))

    assert float(found['agreement']) == pytest.approx(agreeing)
    assert float(found['student_perplexity']) == pytest.approx(perplexity(student), rel=1e-4)
    assert float(found['teacher_perplexity']) == pytest.approx(perplexity(target), rel=1e-4)


@pytest.mark.parametrize('frozen', [False, True])
def test_dead_templates_are_those_that_the_layer_never_assigns(frozen: bool) -> None:
    layer = KDLayerConnector(4, 50, template_scale=2.0, semantic_scale=0.5)
    layer.bn.train(not frozen)
    torch.nn.init.normal_(layer.bn.running_mean)
    torch.nn.init.normal_(layer.bn.weight)
    torch.nn.init.normal_(layer.bn.bias, mean=-2.0)
    scores = layer.templates(torch.randn(3, 4, 2, 2))
    assigned = layer.bn(scores).relu().amax((0, 2, 3))
    found = module.layer_metrics(layer, scores)
    assert 0 < float((assigned == 0).float().mean()) < 1
    assert float(found['dead_templates']) == pytest.approx(float((assigned == 0).float().mean()))
    assert [found[f'{name}_scale'].item() for name in ('template', 'semantic')] == [2.0, 0.5]


MAIN = ['agreement', 'student_perplexity', 'dead_templates']
DETAILS = ['teacher_perplexity', 'template_scale', 'semantic_scale']


def make_runner(model: Any, log: Callable[[str, float], Any], batches: int = 100) -> Any:
    loop = ResumableEpochLoop.__new__(ResumableEpochLoop)
    loop.dataloader = range(batches)  # type: ignore[assignment]
    hub = SimpleNamespace(update_scalar=log)
    return SimpleNamespace(iter=0, epoch=0, model=model, message_hub=hub, train_loop=loop)


@pytest.mark.parametrize(
    ('batches', 'details', 'measured'),
    [
        (7, False, [2, 5, 6]),
        (7, True, [2, 5, 6]),
        (2, False, [1, 2, 3, 5]),
        (1, False, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_they_are_computed_every_few_iterations_and_once_an_epoch(
    batches: int,
    details: bool,
    measured: list[int],
    make_distillation: Any,
    make_batch: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    compute = module.assignment_metrics
    monkeypatch.setattr(
        module, 'assignment_metrics', lambda *a, **k: calls.append(runner.iter) or compute(*a, **k)
    )
    logged: dict[str, list[int]] = {}
    runner = make_runner(
        make_distillation(),
        lambda name, value: logged.setdefault(name, []).append(runner.iter),
        batches,
    )
    hook = KDMetricsHook(interval=3, details=details)
    for runner.iter in range(7):
        runner.epoch, index = divmod(runner.iter, batches)
        hook.before_train_iter(runner, index)
        runner.model(*make_batch(), mode='loss')
        hook.after_train_iter(runner, index)
    assert calls == [iteration for iteration in measured for _ in range(2)]  # two losses
    names = MAIN + DETAILS * details
    assert logged == {
        f'train/kd/{layer}/{metric}': measured for layer in ('inter', 'penult') for metric in names
    }
    assert sum(len(name) + len(': 12.3456  ') for name in logged) < (250 if not details else 500)
    for loss in runner.model.distiller.distill_losses.values():
        assert not loss._forward_pre_hooks


def test_layers_of_a_student_that_is_wrapped_itself(
    make_distillation: Any, make_batch: Any
) -> None:
    model = make_distillation()
    # As MMSeparateDistributedDataParallel does, which mmrazor's data-free recipes use.
    model.architecture = torch.nn.DataParallel(model.architecture)
    found: dict[str, float] = {}
    runner = make_runner(model, found.__setitem__)
    hook = KDMetricsHook(interval=1)
    hook.before_train_iter(runner, 0)
    model(*make_batch(), mode='loss')
    hook.after_train_iter(runner, 0)
    assert {'train/kd/inter/dead_templates', 'train/kd/penult/dead_templates'} <= set(found)
