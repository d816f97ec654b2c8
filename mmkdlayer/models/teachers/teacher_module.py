"""Any network as a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError, KDLayerError
from mmkdlayer.registry import MODELS

from .sources import Network, Size, build_network

#: What networks raise on images of a size that they are not made for.
_UNFIT = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@MODELS.register_module()
class TeacherModule(BaseModel):
    """A network of timm, torchvision or Hugging Face, or of one's own, where a teacher is expected.

    It is given the same view of an image as the student, in its own normalisation and at its own size:
    its batch is made of the student's, on the device. (The normalisation is converted by the
    pre-hook of :mod:`mmkdlayer.models.teachers.view`.)

    Its modules are read below ``model``: ``teacher='model.blocks.11'``.

    Args:
        source: ``'timm:NAME'``, ``'torchvision:NAME'``, ``'hf:NAME'`` (or a local folder),
            ``'package.module:function'``, which returns an ``nn.Module``; or a model of mmpretrain, or
            its config, for another size.
        weights: A file of torch or safetensors, which is read without running code in it; True (or
            ``'pretrained'``) for what the library publishes; for torchvision the name of one of its
            weights, ``'IMAGENET1K_V1'``; None for random ones.
        input_size: Height and width of the teacher's images, or one number for both; None for what
            the source tells, else that of the student.
        mean: Of each channel, for pixels from 0 to 255; None for what the source tells.
        std: Of each channel, likewise.
        to_rgb: Whether the images, as they are loaded, are to be reversed from BGR to RGB; None where
            the teacher takes RGB: done where images are loaded from files, which gives BGR.
        arguments: More arguments for what builds the network, such as ``dict(num_classes=0)``.

    Raises:
        CheckpointError: The weights do not fit.
        ConfigError: The network can't be built, a library is missing, or the source does not tell its
            normalisation and none is stated.
    """

    #: In training it must be known how the student's images were made.
    needs_view = True

    def __init__(
        self,
        source: str | dict | nn.Module,
        weights: str | bool | None = None,
        input_size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        to_rgb: bool | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        stated = _parse_size(input_size)
        weights = True if weights == 'pretrained' else weights or None
        network = build_network(source, weights, stated, arguments or {})
        mean, std = (tuple(mean) if mean else network.mean), (tuple(std) if std else network.std)
        _check_normalisation(source, mean, std)
        to_rgb = network.to_rgb if to_rgb is None else to_rgb
        settings = dict(mean=mean, std=std, to_rgb=to_rgb is not False)
        super().__init__(MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor', **settings)))
        self.model = network.model
        self.source = source if isinstance(source, str) else type(network.model).__name__
        self.input_size: Size = stated or network.input_size
        self.to_rgb = to_rgb
        self.forward_arguments = dict(network.forward_arguments or {})
        self._known_sizes: set[tuple[int, ...]] = set()
        # timm's and Hugging Face's networks have init_weights, which would overwrite what was loaded.
        self._is_init = True
        self.eval()
        _log(self, network, weights, settings)

    def extract_feat(self, inputs: Tensor) -> Any:
        """Run the network on images (N, C, H, W), which are brought to its size.

        Raises:
            ConfigError: It can't take images of this size.
        """
        if not isinstance(inputs, Tensor) or inputs.dim() != 4:
            raise ConfigError(
                f'TeacherModule {self.source}: expected images (N, C, H, W), but got '
                f'{tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__}.'
            )
        images = resize_images(inputs, self.input_size)
        shape = tuple(images.shape[1:])
        if shape in self._known_sizes:
            return self.model(images, **self.forward_arguments)
        try:
            outputs = self.model(images, **self.forward_arguments)
        except (KDLayerError, torch.cuda.OutOfMemoryError):
            raise
        except _UNFIT as error:
            if 'CUDA' in str(error) or 'cuDNN' in str(error):  # it is not about the size
                raise
            raise ConfigError(
                f'TeacherModule: {self.source} does not take images {shape} '
                f'({type(error).__name__}: {" ".join(str(error).split())[:300]}). Set input_size to the '
                'size that it is made for; some networks are made for another one by an argument, such '
                'as arguments=dict(img_size=...) (timm) or dict(image_size=...) (others).'
            ) from error
        self._known_sizes.add(shape)
        return outputs

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Run the network on images (N, C, H, W).

        Returns:
            For mode ``tensor`` what the network returns, for ``loss`` an empty dict, for ``predict``
            data samples with scores and labels.

        Raises:
            ConfigError: The network can't take these images; or it is asked to predict, and gives no
                class scores.
        """
        outputs = self.extract_feat(inputs)
        if mode == 'loss':
            return {}
        return outputs if mode == 'tensor' else self._predictions(outputs, data_samples)

    def _predictions(self, outputs: Any, data_samples: Any) -> list[DataSample]:
        if not isinstance(outputs, Tensor) or outputs.dim() != 2:
            raise ConfigError(
                f'TeacherModule: {self.source} gives no class scores (N, classes), so it can not predict'
                '. Validate the student alone, without SingleTeacherDistillValLoop.'
            )
        samples = data_samples or [DataSample() for _ in outputs]
        for sample, scores in zip(samples, outputs.softmax(1)):
            sample.set_pred_score(scores).set_pred_label(scores.argmax().detach())
        return samples


def resize_images(images: Tensor, size: Size) -> Tensor:
    """Images (N, C, H, W) at another size, bilinear with antialiasing; None leaves them as they are."""
    if size is None or tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode='bilinear', align_corners=False, antialias=True)


def _parse_size(value: Any) -> Size:
    pair = (value, value) if isinstance(value, int) else tuple(value or ())
    if not pair:
        return None
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ConfigError(
            f'TeacherModule: input_size must be a number of pixels or (height, width), but is {value!r}.'
        )
    return pair


def _check_normalisation(source: Any, mean: Any, std: Any) -> None:
    if mean is None or std is None:
        raise ConfigError(
            f'TeacherModule: {source} does not tell how its images are normalised. State mean and std '
            'of each channel, for pixels from 0 to 255, such as mean=[123.675, 116.28, 103.53], '
            'std=[58.395, 57.12, 57.375] (ImageNet); and to_rgb=False if it takes BGR.'
        )
    if len(mean) != len(std) or len(mean) not in (1, 3) or not all(value > 0 for value in std):
        raise ConfigError(
            f'TeacherModule: mean and std must have one number for each of 1 or 3 channels, those of '
            f'std above zero, but got mean={list(mean)}, std={list(std)}.'
        )
    if max(std) <= 1 and max(mean) <= 1 and max(mean) > 0:
        raise ConfigError(
            f'TeacherModule: mean={list(mean)}, std={list(std)} look like those of pixels from 0 to 1, '
            'but here they are of pixels from 0 to 255. Multiply them by 255.'
        )


def _log(teacher: TeacherModule, network: Network, weights: Any, settings: dict[str, Any]) -> None:
    """Say once what the teacher's images are."""
    size = 'x'.join(map(str, teacher.input_size)) if teacher.input_size else "the student's size"
    rounded = {key: [round(v, 3) for v in settings[key]] for key in ('mean', 'std')}
    loaded = 'published ones' if weights is True else weights or 'none are loaded'
    MMLogger.get_current_instance().info(
        f'Teacher {teacher.source}: {type(network.model).__name__}, images at {size}, '
        f'mean={rounded["mean"]}, std={rounded["std"]}, '
        f'{"RGB" if teacher.to_rgb is None else f"to_rgb={teacher.to_rgb}"}; weights: {loaded}.'
    )
