"""What a teacher's module returns, as the feature map that a decision is made of."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.tokens import TokenLayoutFinder, choose_output


class TeacherFeature(nn.Module):
    """Chooses one of a module's outputs, and makes a map of tokens; without parameters.

    Args:
        name: Name of the KD layer, for messages.
        module: Name of the teacher's module.
        index: Which of its outputs, a number or a name; None for the only one.
        extra_tokens, grid: As for a :class:`TokenLayoutFinder`.
    """

    def __init__(
        self,
        name: str,
        module: str,
        index: int | str | None = None,
        extra_tokens: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.key, self.module, self.index = f'kd_layers.{name}.teacher', module, index
        self.extra_tokens, self.grid = extra_tokens, grid
        self.finder: TokenLayoutFinder | None = None

    @property
    def place(self) -> str:
        """How messages call the teacher's module."""
        return f'{self.key}: module "{self.module}"'

    def attach(self, teacher: nn.Module) -> None:
        """Register what finds the layout of tokens on the teacher."""
        names = (f'{self.key}_extra_tokens', f'{self.key}_grid')
        self.finder = TokenLayoutFinder(
            self.place, teacher, self.module, self.extra_tokens, self.grid, names
        )

    def forward(self, output: Any) -> Tensor:
        """The feature map (N, D, H, W) of a module's output: a map, tokens (N, L, D) or (N, H, W, D).

        Raises:
            ConfigError: It is neither, the index does not fit, or no grid fits the tokens.
        """
        x = choose_output(output, self.index, self.place, f'{self.key}_index')
        if isinstance(x, Tensor) and x.dim() == 4:
            last = self.finder is not None and self.finder.is_channels_last(x)
            return x.permute(0, 3, 1, 2) if last else x
        if isinstance(x, Tensor) and x.dim() == 3 and self.finder is not None:
            return self.finder.layout(x, output).to_map(x)
        found = tuple(x.shape) if isinstance(x, Tensor) else f'a {type(x).__name__}'
        hint = ', such as a class token,' if isinstance(x, Tensor) and x.dim() == 2 else ''
        raise ConfigError(
            f'{self.place} returns {found}. A decision needs positions: a feature map (N, D, H, W) or '
            f'tokens (N, L, D). What has none{hint} says nothing about regions; name another module'
            + (', such as the block before it.' if hint else '.')
        )

    def identity(self) -> dict[str, Any]:
        """What of this decides the feature, for the description in a decision file."""
        stated = dict(data_idx=self.index, extra_tokens=self.extra_tokens, grid=self.grid)
        return {key: value for key, value in stated.items() if value}

    def extra_repr(self) -> str:
        """For ``print(model)``."""
        return f'module={self.module!r}, index={self.index!r}'
