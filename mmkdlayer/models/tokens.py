"""Tokens as positions: (N, L, C) at the border of the KD layers and decisions, (N, C, H, W) inside.

Which tokens are positions, and how they lie, follows from what the network tells: its class, register
and distillation tokens come first and are no positions; the grid is what its module is given or
returns beside the tokens, or the one with the proportions of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError

#: Attributes in which networks say how many tokens come before the positions (mmpretrain, timm).
_COUNTS = ('num_extra_tokens', 'num_prefix_tokens')
#: Parameters that are such tokens, in networks that do not count them (torchvision, transformers).
_TOKENS = (
    *('cls_token', 'class_token', 'class_embedding', 'dist_token', 'distillation_token'),
    *('register_tokens', 'reg_token'),
)
#: Most channels of an image; a map has more.
_MOST_COLOURS = 4
#: Most extra tokens that are tried for an error's advice.
_MOST_TRIED = 16


@dataclass(frozen=True)
class TokenLayout:
    """Which of L tokens are positions: all but the first ``extra``, row after row of a grid."""

    extra: int
    height: int
    width: int

    def to_map(self, tokens: Tensor) -> Tensor:
        """The positions of tokens (N, L, C) as a map (N, C, H, W), a view in channels-last order."""
        positions = tokens[:, self.extra :] if self.extra else tokens
        # With -1, so that a traced graph takes any number of images.
        return positions.reshape(-1, self.height, self.width, tokens.size(2)).permute(0, 3, 1, 2)

    def to_tokens(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """A map (N, C, H, W) in the places of the positions of tokens (N, L, C); the others stay."""
        positions = maps.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([tokens[:, : self.extra], positions], 1) if self.extra else positions


class TokenLayoutFinder:
    """Finds the layout of the tokens that a module returns.

    Forward pre-hooks on the network, on what holds the module, and on the module note what they are
    given. A plain object, so that a deep copy of the network has one of its own.

    Args:
        key: How messages begin, such as ``kd_layers.inter: the student's module "backbone.layers.5"``.
        network: The network; pre-hooks are registered.
        module: Name of the module whose tokens are meant.
        extra_tokens, grid: How many tokens come before the positions, and (height, width) of these; None
            where the network tells.
        names: What the two are called in the config, for messages.
    """

    def __init__(
        self,
        key: str,
        network: nn.Module,
        module: str,
        extra_tokens: int | None = None,
        grid: tuple[int, int] | None = None,
        names: tuple[str, str] = ('extra_tokens', 'grid'),
    ) -> None:
        self.key, self.names = key, names
        self.extra_tokens, self.grid = extra_tokens, grid
        #: (C, H, W) of what each holder was given, images or maps, from the outside in. Not as numbers
        #: yet: a graph of torch.export that reads them would fix the size of its images.
        self.shapes: dict[int, torch.Size] = {}
        self.given_grid: tuple[int, int] | None = None
        parts = module.split('.')
        self.holders = [network.get_submodule('.'.join(parts[:n])) for n in range(len(parts))]
        for number, holder in enumerate(self.holders):
            holder.register_forward_pre_hook(partial(self.note_image, number), with_kwargs=True)
        self.module = network.get_submodule(module)
        self.module.register_forward_pre_hook(self.note_grid, with_kwargs=True)

    def note_image(self, number: int, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Pre-hook of what holds the module: the shape of the images or maps."""
        for value in (*args[:1], *kwargs.values()):
            if isinstance(value, Tensor) and value.dim() == 4:
                self.shapes[number] = value.shape[1:]
                return

    def forget(self) -> None:
        """Drop what was noted in a forward pass that is over."""
        self.shapes, self.given_grid = {}, None

    @property
    def image(self) -> tuple[int, int] | None:
        """Height and width of the innermost image or map that holds the tokens; None if not known."""
        image = None
        for _, shape in sorted(self.shapes.items()):
            sizes = tuple(map(int, shape))
            image = sizes[:2] if _are_channels_last(image, sizes) else sizes[1:]
        return image  # type: ignore[return-value]

    def note_grid(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Pre-hook of the module: the grid, where it is given one; the image of a whole network."""
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.dim() == 4 and first.size(1) <= _MOST_COLOURS:
            self.note_image(len(self.holders), module, args, {})
        self.given_grid = next(_grids((*args, *kwargs.values())), None)

    def is_channels_last(self, x: Tensor) -> bool:
        """Whether a 4-dimensional output is (N, H, W, C), as of some Swins, instead of (N, C, H, W).

        Only one of the two has the proportions of the images; where both or none has, it is the latter.
        """
        return _are_channels_last(self.image, tuple(map(int, x.shape[1:])))

    def layout(self, tokens: Tensor, output: Any = None) -> TokenLayout:
        """The layout of tokens (N, L, C), which stood in a module's output.

        Raises:
            ConfigError: No grid fits the number of tokens.
        """
        extra = self._extra()
        count = int(tokens.size(1)) - extra
        if self.grid is not None:
            if self.grid[0] * self.grid[1] != count:
                raise ConfigError(self._message(tokens, extra, 'which does not fit'))
            return TokenLayout(extra, *self.grid)
        beside = [*_grids(output if isinstance(output, (tuple, list)) else ()), self.given_grid]
        found = next((grid for grid in beside if grid and grid[0] * grid[1] == count), None)
        found = found or _grid_like(self.image, count)
        if found is None:
            raise ConfigError(self._message(tokens, extra, 'and no grid of such proportions fits'))
        return TokenLayout(extra, *found)

    def _extra(self) -> int:
        if self.extra_tokens is not None:
            return self.extra_tokens
        for holder in (self.module, *reversed(self.holders)):
            found = _extra_tokens_of(holder)
            if found is not None:
                return found
        return 0

    def _message(self, tokens: Tensor, extra: int, what: str) -> str:
        extra_name, grid_name = self.names
        length, image = int(tokens.size(1)), self.image
        fitting = (
            (number, _grid_like(image, length - number))
            for number in range(min(_MOST_TRIED, length - 1))
        )
        advice = [f'{extra_name}={number}, {grid_name}={grid}' for number, grid in fitting if grid]
        size = f' of images {image[0]}x{image[1]}' if image else ''
        grid = f' and the grid {self.grid[0]}x{self.grid[1]}' if self.grid else ''
        return (
            f'{self.key} returns {length} tokens{size}; with {extra} that are no positions{grid} there '
            f'are {length - extra} left, {what}. Set {extra_name} and {grid_name}=(height, width) so '
            f'that height * width = {length} - {extra_name}'
            + (f', such as {" or ".join(advice[:2])}.' if advice else '.')
        )


def _grids(values: Any) -> Iterator[tuple[int, int]]:
    """The pairs of positive integers among some values."""
    for value in values:
        if (
            isinstance(value, (tuple, list))
            and len(value) == 2
            and all(isinstance(part, int) and part > 0 for part in value)
        ):
            yield (value[0], value[1])


def _are_channels_last(image: tuple[int, ...] | None, sizes: tuple[int, ...]) -> bool:
    """Whether three sizes are (H, W, C) of an image, instead of (C, H, W)."""
    return (
        image is not None
        and not _has_proportions(image, sizes[1:])
        and _has_proportions(image, sizes[:2])
    )


def _has_proportions(image: tuple[int, ...], grid: tuple[int, ...]) -> bool:
    """Whether a grid is the image by one stride, rounded down or up."""
    (height, width), rows = image, grid[0]
    down, up = max(height // rows, 1), -(-height // rows)
    return (height // down, width // down) == grid or (-(-height // up), -(-width // up)) == grid


@lru_cache
def _grid_like(image: tuple[int, int] | None, count: int) -> tuple[int, int] | None:
    """The grid of ``count`` positions over an image by one stride, rounded down or up; None if none is.

    The grid is square where the image is not known.
    """
    height, width = image or (count, count)
    for stride in range(1, max(height, width) + 1):
        for grid in (
            (height // stride, width // stride),
            (-(-height // stride), -(-width // stride)),
        ):
            if grid[0] * grid[1] == count:
                return grid
    return None


def _extra_tokens_of(holder: nn.Module) -> int | None:
    """How many tokens before the positions a network has; None where it does not say."""
    for name in _COUNTS:
        count = getattr(holder, name, None)
        if isinstance(count, int):
            return count
    sources = [holder, getattr(holder, 'embeddings', None)]
    parameters = [getattr(source, name, None) for source in sources for name in _TOKENS]
    found = [p for p in parameters if isinstance(p, Tensor)]
    return sum(p.size(1) if p.dim() == 3 else 1 for p in found) if found else None


def choose_output(output: Any, index: int | str | None, key: str, option: str) -> Any:
    """One output of a module that returns several: a tuple's, a list's or a mapping's.

    Of tokens and their grid, (tokens, (height, width)), the tokens are chosen by themselves.
    ``index`` is None for the only one.

    Raises:
        ConfigError: There is no such output, or it has to be chosen. The message begins with ``key``,
            and names the ``option`` of the config.
    """
    if isinstance(output, Tensor) and index is None:
        return output
    if isinstance(output, Mapping):
        known: list[Any] = list(output)
        if index in known:
            return output[index]
    elif isinstance(output, (tuple, list)):
        known = list(range(len(output)))
        if index is None and len(output) == 2 and list(_grids(output[1:])):
            return output[0]
        if isinstance(index, int) and -len(output) <= index < len(output):
            return output[index]
    else:
        found = 'one tensor' if isinstance(output, Tensor) else f'a {type(output).__name__}'
        advice = f'Take {option} out.' if index is not None else 'Name another module.'
        raise ConfigError(f'{key} returns {found}, but {option} is {index!r}. {advice}')
    kind = type(output).__name__
    raise ConfigError(
        f'{key} returns a {kind} of {len(known)}, but {option} is {index!r}. Set {option} to one of '
        f'{", ".join(map(repr, known))}.'
    )


def replace_output(output: Any, old: Tensor, new: Tensor) -> Any:
    """A module's output with one of its tensors replaced: of the same type, a new one."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        replaced = copy(output)
        for name in [name for name, value in output.items() if value is old]:
            replaced[name] = new  # type: ignore[index]
        return replaced
    outputs = [new if value is old else value for value in output]
    named = hasattr(output, '_fields')  # a namedtuple
    return type(output)(*outputs) if named else type(output)(outputs)
