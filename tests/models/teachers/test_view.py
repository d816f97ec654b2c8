"""The student's batch in the normalisation of the teacher."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmpretrain.models.utils import ClsDataPreprocessor
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.teachers import TeacherView, attach_views, describe_view, find_view
from mmkdlayer.models.teachers.view import Normalisation

STUDENT = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
OTHERS = [
    dict(mean=[127.5, 100.0, 90.0], std=[127.5, 60.0, 50.0], to_rgb=True),
    dict(mean=[103.53, 116.28, 123.675], std=[1.0, 2.0, 3.0], to_rgb=False),
    dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], to_rgb=False),
    dict(to_rgb=True),
    dict(),
]


class Seen(BaseModel):
    """A teacher that returns what it is given."""

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        return inputs


def pixels(channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (4, channels, 6, 5)
    return list(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))


def images(preprocessor: nn.Module, channels: int = 3) -> Tensor:
    """The images as a preprocessor makes them."""
    return preprocessor(dict(inputs=pixels(channels)), False)['inputs']


def teacher_with(own: nn.Module, used: nn.Module) -> Seen:
    teacher = Seen(own)
    attach_views(teacher)
    view = find_view(teacher)
    assert view is not None
    view.connect(used)
    return teacher


@pytest.mark.parametrize('own', OTHERS)
@pytest.mark.parametrize('used', [STUDENT, dict(STUDENT, to_rgb=False), dict()])
def test_the_images_are_those_of_the_own_preprocessor(own: dict, used: dict) -> None:
    student, stated = ClsDataPreprocessor(**used), ClsDataPreprocessor(**own)
    found = teacher_with(stated, student)(images(student))
    torch.testing.assert_close(found, images(stated), rtol=1e-5, atol=1e-4)


def test_a_preprocessor_of_mmengine() -> None:
    student = ClsDataPreprocessor(**STUDENT)
    stated = ImgDataPreprocessor(mean=[9.0, 8.0, 7.0], std=[3.0, 4.0, 5.0], bgr_to_rgb=False)
    found = teacher_with(stated, student)(images(student))
    torch.testing.assert_close(found, images(stated), rtol=1e-5, atol=1e-4)
    assert Normalisation.of(ImgDataPreprocessor(bgr_to_rgb=True)).reverses


def test_the_same_normalisation_is_left_alone() -> None:
    student = ClsDataPreprocessor(**STUDENT)
    teacher, batch = teacher_with(ClsDataPreprocessor(**STUDENT), student), images(student)
    assert teacher(batch) is batch
    assert describe_view(teacher) == {}


def test_grey_images() -> None:
    student, stated = ClsDataPreprocessor(mean=[30.0], std=[60.0]), ClsDataPreprocessor(**STUDENT)
    found = teacher_with(stated, student)(images(student, channels=1))
    grey = torch.stack(pixels(1)).expand(-1, 3, -1, -1)
    torch.testing.assert_close(found, stated(dict(inputs=list(grey)), False)['inputs'])
    with pytest.raises(ConfigError, match='images of one channel'):
        teacher_with(student, stated)


def test_where_it_does_nothing() -> None:
    student, stated = ClsDataPreprocessor(**STUDENT), ClsDataPreprocessor(**OTHERS[0])
    batch = images(student)
    teacher = Seen(stated)
    assert teacher(batch) is batch
    attach_views(teacher)
    attach_views(teacher)
    assert len(teacher._forward_pre_hooks) == 1
    assert teacher(batch) is batch  # it is not known yet how the batch was made
    view = find_view(teacher)
    assert view is not None
    view.connect(student)
    assert teacher(batch) is not batch
    # val_step: made by the teacher's own preprocessor; mmrazor's loop replaces that by the student's.
    assert teacher(batch, None, 'predict') is batch
    teacher.data_preprocessor = student
    torch.testing.assert_close(teacher(inputs=batch, mode='predict'), view.convert(batch))
    view.connect(None)
    assert teacher(batch) is batch


def test_it_runs_before_other_hooks() -> None:
    student, stated = ClsDataPreprocessor(**STUDENT), ClsDataPreprocessor(**OTHERS[0])
    teacher, seen = Seen(stated), []
    teacher.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    attach_views(teacher)
    view = find_view(teacher)
    assert view is not None
    view.connect(student)
    found = teacher(images(student))
    assert seen[0] is found


def test_copies_convert_too() -> None:
    student, stated = ClsDataPreprocessor(**STUDENT), ClsDataPreprocessor(**OTHERS[0])
    teacher, batch = teacher_with(stated, student), images(student)
    expected = teacher(batch)
    for copied in (copy.deepcopy(teacher), pickle.loads(pickle.dumps(teacher))):
        assert torch.equal(copied(batch), expected)
        assert find_view(copied) is not find_view(teacher)


def test_several_views_of_an_image_are_refused() -> None:
    student = ClsDataPreprocessor(**STUDENT)
    teacher = teacher_with(ClsDataPreprocessor(**OTHERS[0]), student)
    with pytest.raises(ConfigError, match='gives it a list'):
        teacher([images(student)])


def test_description() -> None:
    view = TeacherView(ClsDataPreprocessor(**OTHERS[0]))
    assert view.describe() == {}
    view.connect(ClsDataPreprocessor(**STUDENT))
    assert view.describe() == dict(
        mean=(127.5, 100.0, 90.0), std=(127.5, 60.0, 50.0), reverses=True
    )
