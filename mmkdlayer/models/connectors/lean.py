"""The KD layer's way from scores to values, without any copy of the scores."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.models.autograd import refuse_second_derivative
from mmkdlayer.models.precision import full_precision

from .layout import maps_of, rows_of
from .unit_conv import EPS

#: Templates in one tile: its temporaries stay in a CPU's cache.
TILE = 256


class _ExplainMatches(torch.autograd.Function):
    """``v_c = scale * <u_c, p / |p|>`` with ``p = ReLU(BN(scores))``, tile by tile over the templates.

    Of the tensors with K channels only the scores are stored, which the layer's loss needs anyway; the
    assignments p are formed again in the backward pass. With n = 1 / |p|, h = scale * n * dL/dv and
    e = n^2 * sum_c dL/dv_c * v_c::

        dL/dp_k = sum_c u_ck h_c - e p_k        dL/du_ck = sum_i h_c p_k

    and BN's backward pass belongs to each template alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        gain: Tensor,
        shift: Tensor,
        directions: Tensor,
        scale: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = rows_of(scores)
        positions, templates = rows.shape
        ctx.batch_statistics = mean is None
        if mean is None or variance is None:
            mean, variance = torch.empty_like(gain), torch.empty_like(gain)
            for start in range(0, templates, TILE):
                tile = slice(start, start + TILE)
                part = rows[:, tile]
                mean[tile] = part.mean(0)
                variance[tile] = (part - mean[tile]).square_().mean(0)
        values = rows.new_zeros(positions, directions.size(0))
        squares = rows.new_zeros(positions)
        slope = gain * (variance + eps).rsqrt()
        offset = shift - mean * slope
        for start in range(0, templates, TILE):
            tile = slice(start, start + TILE)
            assigned = torch.addcmul(offset[tile], rows[:, tile], slope[tile]).relu_()
            squares += torch.linalg.vector_norm(assigned, dim=1).square_()
            values.addmm_(assigned, directions[:, tile].t())
        norms = squares.sqrt_()
        inverse = torch.where(norms > 0, norms.clamp_min(EPS).reciprocal(), 0.0)
        values *= inverse[:, None] * scale
        ctx.eps = eps
        ctx.save_for_backward(
            scores, gain, shift, directions, scale, mean, variance, inverse, values
        )
        ctx.mark_non_differentiable(mean, variance)
        return maps_of(values, scores), mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("KDLayerConnector (implementation='lean')")
        with full_precision(grads[0]):  # it may be called under autocast too
            scores, gain, shift, directions, scale, mean, variance, inverse, values = (
                ctx.saved_tensors
            )
            rows, upstream = rows_of(scores), rows_of(grads[0])
            positions, templates = rows.shape
            along = (upstream * values).sum(1)
            pull = along * inverse.square()
            outer = upstream * (scale * inverse[:, None])
            spread = (variance + ctx.eps).rsqrt()
            slope = gain * spread
            offset = shift - mean * slope
            d_rows = torch.empty_like(rows)
            d_gain, d_shift = torch.empty_like(gain), torch.empty_like(shift)
            d_directions = torch.empty_like(directions)
            for start in range(0, templates, TILE):
                tile = slice(start, start + TILE)
                part = rows[:, tile]
                assigned = torch.addcmul(offset[tile], part, slope[tile]).relu_()
                grad = outer @ directions[:, tile]
                torch.mm(outer.t(), assigned, out=d_directions[:, tile])
                grad.addcmul_(assigned, pull[:, None], value=-1).mul_(assigned.sign_())
                d_shift[tile] = grad.sum(0)
                torch.mul(part, grad, out=assigned)
                d_gain[tile] = (assigned.sum(0) - mean[tile] * d_shift[tile]) * spread[tile]
                if ctx.batch_statistics:
                    tilt = d_gain[tile] * spread[tile] / -positions
                    grad.addcmul_(part, tilt).sub_(mean[tile] * tilt + d_shift[tile] / positions)
                torch.mul(grad, slope[tile], out=d_rows[:, tile])
            d_scale = (along.sum() / scale).view_as(scale)
            return maps_of(d_rows, scores), d_gain, d_shift, d_directions, d_scale, None, None, None


def explain_matches(scores: Tensor, bn: nn.BatchNorm2d, kernel: Tensor, scale: Tensor) -> Tensor:
    """The values (N, C, H, W) of scores (N, K, H, W); updates the batch norm's running statistics.

    Args:
        scores: In float32 or better.
        bn: Over the K templates.
        kernel: The semantic vectors, (C, K, 1, 1), before normalisation.
        scale: Shape (1,).
    """
    directions = F.normalize(kernel.flatten(1), dim=1, eps=EPS)
    running_mean, running_var = bn.running_mean, bn.running_var
    batch = bn.training or running_mean is None
    statistics = (None, None) if batch else (running_mean, running_var)
    values, mean, variance = _ExplainMatches.apply(
        scores, bn.weight, bn.bias, directions, scale, *statistics, bn.eps
    )
    if bn.training and running_mean is not None and running_var is not None:
        momentum = float(bn.momentum or 0.0)
        with torch.no_grad():
            positions = scores.numel() // scores.size(1)
            bn.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (positions / (positions - 1)), momentum)
    return values
