"""KD layers in one's own loop, on tokens, and teachers with a normalisation of their own."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from mmpretrain.models.utils import ClsDataPreprocessor
from torch import Tensor, nn

from mmkdlayer import PlainDistiller
from mmkdlayer.models.teachers import attach_views, find_view
from simulated_cuda.device import SimulatedCuda

CLASSES = 3


class Convolutions(nn.Sequential):
    """A stage, and class scores."""

    def __init__(self, channels: int, stride: int = 2) -> None:
        stage = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride, 1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        super().__init__()
        self.stage = stage
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stage(images).mean((2, 3)))


class Tokens(Convolutions):
    """The positions of a stage as tokens, after a class token."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.block = nn.Linear(channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.stage(images).flatten(2).transpose(1, 2)
        return self.head(
            self.block(torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1)).mean(1)
        )


def layers(module: str, teacher: str) -> dict[str, Any]:
    inter, place = (
        dict(module=place, in_channels=8, teacher=teacher) for place in ('stage.0', module)
    )
    subclasses = dict(
        type='mmkdlayer.SubclassDecision', num_classes=CLASSES, num_subclasses=2, num_components=2
    )
    centroids = dict(type='mmkdlayer.CentroidDecision', num_centroids=7)
    return dict(inter=dict(inter, decision=subclasses), penult=dict(place, decision=centroids))


PAIRS: dict[str, Callable[[], tuple[nn.Module, nn.Module, dict]]] = {
    'maps': lambda: (Convolutions(8), Convolutions(10), layers('stage', 'stage')),
    "a teacher's smaller map": lambda: (
        Convolutions(8),
        Convolutions(10, 4),
        layers('stage', 'stage'),
    ),
    'tokens': lambda: (Tokens(8), Tokens(10), layers('block', 'block')),
    'tokens taught by maps': lambda: (
        Tokens(8),
        Convolutions(10, 1),
        layers('block', 'stage'),
    ),
}


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6) % CLASSES
    return [
        (torch.randn(6, 3, 8, 8, generator=generator) + labels[:, None, None, None], labels)
        for _ in range(3)
    ]


def run(name: str, device: str, cuda: SimulatedCuda) -> tuple[list, dict[str, Tensor], list]:
    """Fit on the device from a loader of the host, then train three steps."""
    torch.manual_seed(0)
    student, teacher, declared = PAIRS[name]()
    distiller = PlainDistiller(student, teacher, declared)
    student.to(device)
    teacher.to(device)
    distiller.fit(batches(), progress=False)
    given = [(images.to(device), labels.to(device)) for images, labels in batches()]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    logs, events = [], []
    for images, labels in given:
        cuda.events.clear()
        total = nn.functional.cross_entropy(student(images), labels)
        losses = distiller.losses(images, labels)
        (total + sum(losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad()
        events.append(cuda.found('mix', 'sync', 'copy'))
        logs.append({key: float(value) for key, value in losses.items()})
    return logs, {key: value.detach().cpu() for key, value in student.state_dict().items()}, events


@pytest.mark.parametrize('name', PAIRS)
def test_a_loop_of_ones_own(name: str, cuda: SimulatedCuda) -> None:
    expected = run(name, 'cpu', cuda)
    assert cuda.found('mix') == []
    found = run(name, 'cuda', cuda)
    assert cuda.found('mix') == []
    assert found[2][1:] == [[], []]
    for ours, theirs in zip(found[0], expected[0]):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    for key, value in expected[1].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_the_normalisation_of_a_teacher_is_made_on_the_device(cuda: SimulatedCuda) -> None:
    used = ClsDataPreprocessor(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 55.0], to_rgb=True)
    teacher = Convolutions(4)
    teacher.data_preprocessor = ClsDataPreprocessor(mean=[0.0] * 3, std=[255.0] * 3)
    attach_views(teacher)
    view = find_view(teacher)
    assert view is not None
    view.connect(used)
    images = torch.randn(2, 3, 8, 8)
    expected = teacher(images)
    teacher.to('cuda')
    given = images.to('cuda')
    for _ in range(2):
        cuda.events.clear()
        found = teacher(given)
        events = cuda.found('mix', 'sync', 'copy')
    assert events == []
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)
