"""What data preprocessors make of an image, for comparing them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Height and width of the image that they are compared on: padding shows too.
SIDES = (33, 37)


def make_image(grey: bool = False) -> Tensor:
    """An image (3, H, W) of many pixel values; its channels are the same if it is grey."""
    image = (torch.arange(3 * SIDES[0] * SIDES[1]) % 251).view(3, *SIDES).to(torch.uint8)
    return image[:1].expand(3, -1, -1) if grey else image


def preprocessed(preprocessor: nn.Module, image: Tensor) -> Tensor | None:
    """What a preprocessor makes of a batch of one image, (1, C, H, W); None where it takes none such."""
    try:
        image = image[: getattr(preprocessor, 'mean', image).size(0)]
        found = preprocessor(dict(inputs=[image.clone()], data_samples=None), False)['inputs']
        return torch.stack(list(found)).float().cpu()
    except Exception:  # made for other data, such as several views of an image
        return None


def describe(preprocessor: nn.Module) -> str:
    """The settings of a data preprocessor that change an image."""
    parts = {
        name: [round(value, 4) for value in getattr(preprocessor, name).flatten().tolist()]
        for name in ('mean', 'std')
        if isinstance(getattr(preprocessor, name, None), Tensor)
    }
    for name in ('to_rgb', '_channel_conversion', 'pad_size_divisor', 'pad_value'):
        if hasattr(preprocessor, name):
            parts[name.strip('_')] = getattr(preprocessor, name)
    return ', '.join(f'{name}={value}' for name, value in parts.items())
