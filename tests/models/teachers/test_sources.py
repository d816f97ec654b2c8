"""Networks of other libraries, and what each tells about its images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmkdlayer.errors import CheckpointError, ConfigError
from mmkdlayer.models.teachers.sources import build_network, is_function

IMAGENET = pytest.approx((123.675, 116.28, 103.53))
TINY_VIT = dict(depth=2, embed_dim=24, num_heads=2, num_classes=0)
VIT = 'timm:vit_small_patch14_dinov2.lvd142m'


def build(source: Any, weights: Any = None, size: Any = None, **arguments: Any) -> Any:
    return build_network(source, weights, size, arguments)


class TestTimm:
    @pytest.fixture(autouse=True)
    def _timm(self) -> None:
        pytest.importorskip('timm', reason='needs "pip install timm" (requirements/teachers.txt)')

    def test_what_it_tells(self) -> None:
        found = build('timm:resnet10t')
        assert found.mean == IMAGENET
        assert found.std == pytest.approx((58.395, 57.12, 57.375))
        assert found.input_size == (176, 176)
        assert found.to_rgb is None

    def test_a_network_of_a_fixed_size_is_made_for_another(self) -> None:
        found = build(VIT, size=(42, 28), **TINY_VIT)
        assert found.input_size == (42, 28)
        assert found.model.pos_embed.shape == (1, 1 + 3 * 2, 24)
        assert build(VIT, **TINY_VIT).input_size == (518, 518)

    def test_weights_of_another_size_and_with_a_head(self, tmp_path: Path) -> None:
        vit = 'timm:vit_tiny_patch16_224'
        other = build(vit, **dict(TINY_VIT, num_classes=1000)).model
        torch.save(other.state_dict(), tmp_path / 'vit.pth')
        found = build(vit, str(tmp_path / 'vit.pth'), size=(32, 32), **TINY_VIT).model
        assert torch.equal(found.blocks[1].mlp.fc1.weight, other.blocks[1].mlp.fc1.weight)
        assert found.pos_embed.shape == (1, 5, 24)
        assert 'state_dict' not in found.pretrained_cfg
        with pytest.raises(ConfigError, match=r'can not be built \(RuntimeError.*Correct source'):
            build(vit, str(tmp_path / 'vit.pth'), **dict(TINY_VIT, embed_dim=48))

    def test_published_weights_are_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import timm

        asked = []

        def create_model(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
            asked.append((name, pretrained, arguments))
            raise OSError('no network')

        monkeypatch.setattr(timm, 'create_model', create_model)
        with pytest.raises(ConfigError, match='OSError: no network.*fetch the file.*weights=FILE'):
            build('timm:resnet10t', True, num_classes=0)
        assert asked == [('resnet10t', True, dict(num_classes=0))]

    def test_a_wrong_name(self) -> None:
        with pytest.raises(ConfigError, match='timm has no model "vit_tinyy".*Near matches'):
            build('timm:vit_tinyy')
        with pytest.raises(ConfigError, match='can not be built.*Invalid pretrained tag'):
            build('timm:vit_tiny_patch16_224.nothing')


class TestTorchvision:
    def test_what_it_tells(self, tmp_path: Path) -> None:
        found = build('torchvision:resnet18')
        assert found.mean == IMAGENET
        assert found.input_size == (224, 224)
        torch.save(found.model.state_dict(), tmp_path / 'resnet.pth')
        again = build('torchvision:resnet18', str(tmp_path / 'resnet.pth')).model
        assert torch.equal(again.conv1.weight, found.model.conv1.weight)
        with pytest.raises(CheckpointError, match='does not fit the model ResNet'):
            build('torchvision:resnet18', str(tmp_path / 'resnet.pth'), num_classes=5)

    @pytest.mark.parametrize(
        ('weights', 'name', 'size'),
        [(True, 'DEFAULT', 224), ('IMAGENET1K_V1', 'IMAGENET1K_V1', 224)],
    )
    def test_published_weights_are_asked_for(
        self, monkeypatch: pytest.MonkeyPatch, weights: Any, name: str, size: int
    ) -> None:
        from torchvision import models

        asked = []
        monkeypatch.setattr(
            models, 'get_model', lambda name, weights: asked.append(weights) or nn.Identity()
        )
        assert build('torchvision:resnet50', weights).input_size == (size, size)
        assert asked == [name]

    def test_a_wrong_name(self) -> None:
        with pytest.raises(ConfigError, match='torchvision has no model "resnet5".*resnet50'):
            build('torchvision:resnet5')


class TestTransformers:
    @pytest.fixture(autouse=True)
    def _transformers(self) -> None:
        reason = 'needs "pip install transformers" (requirements/teachers.txt), for this torch'
        library = pytest.importorskip('transformers', reason=reason)
        if not library.is_torch_available():
            pytest.skip(reason)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A tiny DINOv2 as it is published."""
        from transformers import Dinov2Config, Dinov2Model

        sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2)
        Dinov2Model(Dinov2Config(image_size=56, patch_size=14, **sizes)).save_pretrained(tmp_path)
        told = dict(image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25])
        told.update(do_center_crop=True, crop_size=dict(height=42, width=28))
        (tmp_path / 'preprocessor_config.json').write_text(json.dumps(told))
        return tmp_path

    def test_what_a_folder_tells(self, folder: Path) -> None:
        found = build(f'hf:{folder}', True)
        assert found.mean == (127.5, 127.5, 127.5)
        assert found.std == (63.75, 63.75, 63.75)
        assert found.input_size == (42, 28)
        state = dict(found.model.state_dict())
        name = 'embeddings.patch_embeddings.projection.weight'
        for weights in (True, None):
            again = build(f'hf:{folder}', weights).model.state_dict()
            assert torch.equal(again[name], state[name]) == bool(weights)
        with pytest.raises(ConfigError, match='Give weights=True, and as source the folder'):
            build(f'hf:{folder}', str(folder / 'model.safetensors'))
        (folder / 'preprocessor_config.json').unlink()
        found = build(f'hf:{folder}')
        assert found.mean is None
        assert found.input_size == (56, 56)

    def test_the_image_tower_of_a_pair(self, tmp_path: Path) -> None:
        from transformers import CLIPConfig, CLIPModel

        sizes = dict(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        text = dict(sizes, vocab_size=8, max_position_embeddings=8)
        vision = dict(sizes, image_size=32, patch_size=16)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
        found = build(f'hf:{tmp_path}', True)
        images = torch.zeros(1, 3, 48, 48)
        outputs = found.model(images, **found.forward_arguments)
        assert outputs['last_hidden_state'].shape == (1, 10, 16)

    def test_a_masked_autoencoder_is_refused(self, tmp_path: Path) -> None:
        from transformers import ViTMAEConfig

        ViTMAEConfig().save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match='hides and shuffles patches.*timm:vit_base'):
            build(f'hf:{tmp_path}')

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='can not be built'):
            build(f'hf:{tmp_path}', True)


def halves(**arguments: Any) -> nn.Module:
    """A function of one's own."""
    return nn.Conv2d(3, **arguments)


class TestFunctions:
    def test_it_is_called(self, tmp_path: Path) -> None:
        source = f'{__name__}:halves'
        found = build(source, out_channels=2, kernel_size=1)
        assert found.mean is None
        assert found.model.weight.shape == (2, 3, 1, 1)
        torch.save(found.model.state_dict(), tmp_path / 'a.pth')
        again = build(source, str(tmp_path / 'a.pth'), out_channels=2, kernel_size=1)
        assert torch.equal(again.model.weight, found.model.weight)

    @pytest.mark.parametrize(
        ('source', 'weights', 'words'),
        [
            ('nothing:at_all', None, 'can not be imported.*No module named'),
            (f'{__name__}:at_all', None, 'can not be imported.*at_all'),
            ('collections:OrderedDict', None, 'must return an nn.Module, but gives a OrderedDict'),
            (f'{__name__}:halves', True, 'loads its weights by itself'),
            (f'{__name__}:halves', None, r'can not be built \(TypeError'),
            ('resnet50', None, "must be one of 'timm:NAME'.*but got 'resnet50'"),
        ],
    )
    def test_what_can_not_be_used(self, source: str, weights: Any, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            build(source, weights)

    def test_which_sources_are_functions(self) -> None:
        assert is_function('a.b:c')
        assert not any(map(is_function, ('timm:a', 'hf:a/b', 'torchvision:a', 'a', None, dict())))


class TestModelsOfTheHost:
    def test_a_config(self, classifier_config: Any, tmp_path: Path) -> None:
        own = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)
        own.update(type='mmpretrain.ClsDataPreprocessor')
        config = classifier_config(data_preprocessor=own)
        found = build(config)
        assert (found.mean, found.std, found.to_rgb) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), True)
        assert build(classifier_config()).mean is None
        torch.save(dict(state_dict=found.model.state_dict()), tmp_path / 'a.pth')
        again = build(config, str(tmp_path / 'a.pth')).model
        assert torch.equal(again.head.fc.weight, found.model.head.fc.weight)

    @pytest.mark.parametrize(
        ('weights', 'source', 'words'),
        [
            (True, dict(type='mmpretrain.VGG', depth=11), 'weights=True and arguments are for'),
            (None, dict(cfg_path='mmpretrain::a.py', head=None), 'head beside cfg_path'),
        ],
    )
    def test_what_would_be_ignored(self, weights: Any, source: dict, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            build(source, weights)


@pytest.mark.parametrize(
    ('source', 'module'), [('timm:a', 'timm.models'), ('hf:a', 'transformers')]
)
def test_a_library_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, source: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r'needs .*pip install "mmkdlayer\[teachers\]"'):
        build(source)
