"""A network of any origin, used as mmrazor and this package use a teacher."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import TeacherModule
from mmkdlayer.models.connectors.teacher_feature import TeacherFeature

PIXELS = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])


class Fixed(nn.Module):
    """For images of 8x8; has init_weights, as networks of timm have."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Dropout())
        self.head = nn.Linear(4, classes) if classes else None

    def init_weights(self) -> None:
        nn.init.zeros_(self.blocks[0].weight)

    def forward(self, images: Tensor) -> Any:
        assert images.shape[2:] == (8, 8), f'Input height ({images.size(2)}) is not 8.'
        found = self.blocks(images)
        return found if self.head is None else self.head(found.mean((2, 3)))


def make(**changes: Any) -> TeacherModule:
    return TeacherModule(**{'source': f'{__name__}:Fixed', 'input_size': 8, **PIXELS, **changes})


def test_the_size_of_its_images() -> None:
    teacher = make()
    seen: list[Tensor] = []
    teacher.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.rand(2, 3, 16, 12)
    assert teacher(images).shape == (2, 4, 2, 2)
    # Oracle: the mean under a triangle of two pixels' half width, in each direction.
    rows, columns = triangles(16, 8), triangles(12, 8)
    torch.testing.assert_close(seen[0], rows @ images @ columns.T)
    small = torch.rand(2, 3, 8, 8)
    teacher(small)
    assert seen[1] is small


def triangles(length: int, target: int) -> Tensor:
    """Weights (target, length) of bilinear resizing with antialiasing."""
    scale = max(length / target, 1.0)
    centres = (torch.arange(target) + 0.5) * length / target
    distance = ((torch.arange(length) + 0.5)[None] - centres[:, None]).abs() / scale
    weights = (1 - distance).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def test_modes() -> None:
    teacher, images = make(arguments=dict(classes=5)), torch.rand(2, 3, 8, 8)
    logits = teacher(images)
    assert teacher(images, None, mode='loss') == {}
    assert torch.equal(teacher.extract_feat(images), logits)
    samples = [DataSample(), DataSample()]
    found = teacher(images, samples, mode='predict')
    assert found[0] is samples[0]
    assert found[1].pred_label.item() == int(logits[1].argmax())
    torch.testing.assert_close(found[1].pred_score, logits[1].softmax(0))
    with pytest.raises(ConfigError, match='gives no class scores'):
        make()(images, mode='predict')


def test_val_step_uses_its_own_normalisation() -> None:
    teacher = make(arguments=dict(classes=5), to_rgb=True)
    pixels = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    found = teacher.val_step(dict(inputs=[pixels], data_samples=[DataSample()]))
    expected = teacher((pixels.flip(0)[None] - 127.5) / 127.5).softmax(1)[0]
    torch.testing.assert_close(found[0].pred_score, expected)


def test_what_was_loaded_is_not_initialised_again() -> None:
    teacher = make()
    teacher.init_weights()
    assert teacher.model.blocks[0].weight.abs().sum() > 0
    if not pytest.importorskip('mmrazor', reason='a group needs mmrazor'):
        return
    group = MODELS.build(dict(type='mmkdlayer.TeacherGroup', teachers=dict(a=teacher)))
    group.init_weights()
    assert group.a.model.blocks[0].weight.abs().sum() > 0
    assert group(torch.rand(1, 3, 8, 8))['a'].shape == (1, 4, 2, 2)


def test_it_is_built_from_a_config_and_copied() -> None:
    config = dict(
        type='mmkdlayer.TeacherModule', source='torchvision:resnet18', input_size=[32, 48]
    )
    teacher = MODELS.build(config)
    assert not teacher.training
    assert teacher.data_preprocessor.mean.flatten().tolist() == pytest.approx(
        [123.675, 116.28, 103.53]
    )
    names = dict(teacher.named_modules())
    assert 'model.layer4.1' in names
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(copy.deepcopy(teacher)(images), teacher(images))


def test_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'info', said.append)
    make()
    assert len(said) == 1
    assert 'Fixed, images at 8x8, mean=[127.5, 127.5, 127.5]' in said[0]
    assert 'RGB; weights: none are loaded' in said[0]


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(mean=None), 'does not tell how its images are normalised. State mean and std'),
        (dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]), 'Multiply them by 255'),
        (dict(std=[1.0, 2.0, 0.0]), 'above zero'),
        (dict(std=[127.5]), 'one number for each of 1 or 3 channels'),
        (dict(input_size=[8]), 'input_size must be'),
        (dict(input_size=(8, 0)), 'input_size must be'),
        (dict(input_size='8'), 'input_size must be'),
        (dict(arguments=dict(klasses=3)), "unexpected keyword argument 'klasses'"),
    ],
)
def test_wrong_settings(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**changes)


def test_images_that_the_network_does_not_take() -> None:
    teacher = make(input_size=12)
    with pytest.raises(
        ConfigError, match=r'not take images \(3, 12, 12\) \(AssertionError: Input height'
    ):
        teacher(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match=r'expected images \(N, C, H, W\), but got list'):
        make()([torch.zeros(3, 8, 8)])
    with pytest.raises(ConfigError, match=r'but got \(3, 8, 8\)'):
        make()(torch.zeros(3, 8, 8))


def test_an_output_by_name_of_a_whole_network(tmp_path: Path) -> None:
    reason = 'needs "pip install transformers" (requirements/teachers.txt), for this torch'
    library = pytest.importorskip('transformers', reason=reason)
    if not library.is_torch_available():
        pytest.skip(reason)
    sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2)
    library.Dinov2Model(
        library.Dinov2Config(image_size=56, patch_size=14, **sizes)
    ).save_pretrained(tmp_path)
    teacher = make(source=f'hf:{tmp_path}', weights=True, input_size=(42, 28))
    read = TeacherFeature('one', 'model', index='last_hidden_state')
    read.attach(teacher)
    output = teacher(torch.rand(2, 3, 64, 64))
    # The grid is that of the teacher's images, and the class token is none of its positions.
    assert read(output).shape == (2, 24, 3, 2)
    positions = output['last_hidden_state'][:, 1:]
    assert torch.equal(read(output).flatten(2).transpose(1, 2), positions)


def test_errors_after_the_first_images_are_left_alone() -> None:
    teacher = make()
    teacher(torch.zeros(1, 3, 8, 8))

    def fail(*args: Any) -> None:
        raise RuntimeError('of the device')

    teacher.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match='of the device'):
        teacher(torch.zeros(1, 3, 8, 8))
