"""What is said of the teacher and its decisions before training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable

import pytest
import torch
from torch import nn

from mmkdlayer.engine import decision_quality, prepare_decisions
from mmkdlayer.engine.decision_quality import (
    count_guesses,
    count_shares,
    describe_decision,
    describe_teacher,
    is_near_chance,
    report_quality,
    total,
)
from mmkdlayer.models import CentroidDecision, SubclassDecision


def test_a_teacher_is_counted() -> None:
    parts = [
        {'': count_guesses(torch.eye(4), torch.tensor([0, 1, 2, 0]))},
        {'': count_guesses(torch.eye(4)[:2], torch.tensor([0, 3]))},
        {
            '': count_guesses('no scores', torch.tensor([0])),
            'big': count_guesses(torch.eye(4), None),
        },
    ]
    counts = total(parts)
    assert counts[''].tolist() == [6, 4, 2, 2, 1, 1]
    expected = 'Teacher: 66.67 % of 6 validation images right (chance: 25.00 %).'
    assert describe_teacher('', counts['']) == expected
    assert "'big': not measured" in describe_teacher('big', counts['big'])
    assert not is_near_chance(counts['big'])


@pytest.mark.parametrize(
    ('right', 'predicted', 'near'),
    [
        (10, [500, 500], True),
        (530, [500, 500], True),  # 1.9 standard deviations above 500
        (560, [500, 500], False),
        (600, [1000, 0], True),  # always the most frequent class
        (288, [20] * 50, False),  # the teacher of 28.75 % of 50 classes
        (25, [20] * 50, True),
    ],
)
def test_near_chance(right: int, predicted: list[int], near: bool) -> None:
    assert is_near_chance(torch.tensor([1000, right, *predicted]).double()) is near


def test_a_decision_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_quality, '_MOST_ELEMENTS', 1)  # an image at a time
    centroids = torch.tensor([[0.0], [10.0], [99.0]])
    layer: Any = SimpleNamespace(decision=CentroidDecision.from_tables(centroids), size=(1, 2))
    feature = torch.tensor([[[[0.0, 10.0]]], [[[0.0, 5.0]]]])
    counts = count_shares(layer, feature, torch.tensor([0, 7]))  # which it does not need
    positions, highest, own, *most_likely = counts.tolist()
    assert (positions, own, most_likely[2], sum(most_likely)) == (4, 0, 0, 4)
    assert highest == pytest.approx(3.5, rel=1e-4)
    assert describe_decision('penult', counts) == (
        'Decision "penult": 2 of 3 templates are the most likely one somewhere in 4 positions of these '
        'images, with probability 0.88 on average.'
    )


def test_the_share_of_the_own_class() -> None:
    table = torch.tensor([[0.5, 0.25, 0.25, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.1, 0.1, 0.8, 0]])
    decision = SubclassDecision.from_tables(
        torch.ones(1, 1), torch.zeros(1), torch.tensor([[0.0], [9.0], [0.0], [9.0]]), table, 2
    )
    layer: Any = SimpleNamespace(decision=decision, size=(1, 1))
    feature = torch.tensor([0.0, 9.0]).view(2, 1, 1, 1)
    counts = count_shares(layer, feature, torch.tensor([0, 1]))  # rows 0 and 3
    assert float(counts[2]) == pytest.approx(0.75 + 0.8)
    assert '; 0.78 falls to the own class' in describe_decision('inter', counts)


class Log:
    """Lines by level."""

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []

    def info(self, text: str) -> None:
        self.infos.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    logger = SimpleNamespace(get_current_instance=lambda: log)
    monkeypatch.setattr(decision_quality, 'MMLogger', logger)
    return log


def test_nothing_that_goes_wrong_ends_the_training(log: Log) -> None:
    report_quality(None, [], dict(val_dataloader=dict(dataset=3)), 10)
    assert 'could not be measured' in log.warnings[0]
    report_quality(None, [], dict(val_dataloader=dict(dataset=3)), 0)
    report_quality(None, [], {}, 10)
    assert len(log.warnings) == 1 and not log.infos


def test_lines_before_training(
    build: Callable[..., tuple[nn.Module, Any]], log: Log, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model, cfg = build()
    before = torch.get_rng_state()
    prepare_decisions(model, cfg, tmp_path_factory.mktemp('out'))
    assert torch.equal(torch.get_rng_state(), before)
    lines = [line for line in log.infos if line.startswith(('Teacher', 'Decision "'))]
    assert 'of 12 validation images right (chance: 33.33 %)' in lines[0]
    assert [line.split(':')[0] for line in lines[1:]] == ['Decision "inter"', 'Decision "penult"']
    assert any('THE TEACHER IS NEAR CHANCE' in line for line in log.warnings)  # it is untrained
