"""Distillation of vision transformers' tokens (ViTKD)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS


@MODELS.register_module()
class ViTKDLoss(nn.Module):
    """Mimics the tokens of the first two blocks, and generates masked ones of the last.

    With the student's tokens S_l and the teacher's T_l after block l, sums over tokens and channels, and
    the mean over images::

        mimic_weight * sum over the first two of |FC_l(S_l) - T_l|^2
        + generation_weight / masked * sum over masked tokens of |G(M(FC(S)))_i - T_i|^2

    M replaces randomly chosen tokens of the last block by a learned one, G is two 3x3 convolutions with
    a ReLU between them, over the grid of tokens, and FC are linear maps, left out where the channels are
    equal. From Yang et al., *ViTKD: Feature-based Knowledge Distillation for Vision Transformers*, CVPR
    workshops 2024 (arXiv 2209.02432), section 3. It is added to the student's own loss with weight 1.

    The defaults are the authors' for all of their pairs, on ImageNet; they have none for CIFAR-100.

    The loss's own layers are trained, and no part of the student; they follow autocast, and differences
    are in float32. Labels and classes play no part.

    Args:
        student_channels: Channels of the student's tokens.
        teacher_channels: Channels of the teacher's tokens.
        mimic_weight: Weight of the first two blocks (alpha in the paper).
        generation_weight: Weight of the last block (beta).
        masked: Share of the tokens that are masked (lambda), above 0, at most 1.
        student_extra_tokens: How many tokens at the beginning are no positions (class, distillation).
        teacher_extra_tokens: As many of the teacher's.

    Raises:
        ConfigError: ``masked`` is out of range.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        mimic_weight: float = 3e-5,
        generation_weight: float = 3e-6,
        masked: float = 0.5,
        student_extra_tokens: int = 1,
        teacher_extra_tokens: int = 1,
    ) -> None:
        super().__init__()
        if not 0 < masked <= 1:
            raise ConfigError(f'ViTKDLoss: masked must be above 0 and at most 1, but got {masked}.')
        self.mimic_weight, self.generation_weight = mimic_weight, generation_weight
        self.masked = masked
        self.extra_tokens = student_extra_tokens, teacher_extra_tokens
        self.channels = student_channels, teacher_channels
        self.align = nn.ModuleList(
            nn.Identity()
            if student_channels == teacher_channels
            else nn.Linear(student_channels, teacher_channels)
            for _ in range(3)
        )
        self.mask_token = nn.Parameter(torch.zeros(teacher_channels))
        self.generate = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
        )

    def forward(
        self,
        first_S: Tensor,
        second_S: Tensor,
        last_S: Tensor,
        first_T: Tensor,
        second_T: Tensor,
        last_T: Tensor,
    ) -> Tensor:
        """Compute the loss.

        Args:
            first_S: The student's tokens (N, L, C) after its first block.
            second_S: After its second.
            last_S: After its last.
            first_T: The teacher's, (N, L', C'); no gradient reaches them.
            second_T: After its second.
            last_T: After its last.

        Returns:
            A scalar, in float32 or better.

        Raises:
            ConfigError: Shapes do not fit, or the tokens are no square grid.
        """
        students = [self._positions(x, 0) for x in (first_S, second_S, last_S)]
        teachers = [self._positions(x.detach(), 1) for x in (first_T, second_T, last_T)]
        images, tokens, channels = teachers[-1].shape
        side = math.isqrt(tokens)
        if side**2 != tokens or any(x.shape[:2] != (images, tokens) for x in students + teachers):
            found = ' and '.join(str(x.size(1)) for x in (students[-1], teachers[-1]))
            raise ConfigError(
                'ViTKDLoss: expected as many tokens of the student as of the teacher, in a square, but '
                f'got {found} positions beside {self.extra_tokens} extra tokens. Set '
                'student_extra_tokens and teacher_extra_tokens.'
            )
        aligned = [align(x) for align, x in zip(self.align, students)]
        mimic = sum(((a.to(t.dtype) - t) ** 2).sum() for a, t in zip(aligned[:2], teachers))

        kept = int(tokens * (1 - self.masked))
        order = torch.rand(images, tokens, device=last_S.device).argsort(1)
        is_masked = (order.argsort(1) >= kept)[:, :, None]
        x = torch.where(is_masked, self.mask_token.to(aligned[2].dtype), aligned[2])
        x = x.transpose(1, 2).reshape(images, channels, side, side)
        generated = self.generate(x).flatten(2).transpose(1, 2).to(teachers[-1].dtype)
        generation = (((generated - teachers[-1]) ** 2) * is_masked).sum() / self.masked
        return (self.mimic_weight * mimic + self.generation_weight * generation) / images

    def _positions(self, x: Tensor, which: int) -> Tensor:
        """Tokens without the extra ones, in float32 or better."""
        if x.dim() != 3 or x.size(2) != self.channels[which]:
            name = ('student', 'teacher')[which]
            raise ConfigError(
                f'ViTKDLoss: expected tokens (N, L, {self.channels[which]}) of the {name}, but got '
                f'{tuple(x.shape)}. Record the output of a block, and set {name}_channels.'
            )
        dtype = torch.promote_types(x.dtype, torch.float32)
        return x[:, self.extra_tokens[which] :].to(dtype)
