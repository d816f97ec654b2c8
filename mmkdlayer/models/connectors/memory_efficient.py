"""The KD layer from feature map to values, which keeps the scores and nothing else of their size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.models.autograd import refuse_second_derivative
from mmkdlayer.models.layout import maps_of, rows_of
from mmkdlayer.models.precision import full_precision
from mmkdlayer.models.products import product, product_gradients

from .unit_conv import EPS, UnitConv2d, inverse_norm

#: Scores in one tile: 1.5 MiB in float32 on a CPU, whose cache its temporaries stay in. On other devices
#: fewer, larger kernels are started.
TILE = 3 << 17
DEVICE_TILE = 1 << 24
#: Scores of a batch below which the plain formula is faster and its memory does not matter.
MIN_SCORES = 1 << 17
#: Templates in one tile at least, and what their number is a multiple of.
TILE_MULTIPLE = 64


def _tiles(rows: Tensor) -> list[slice]:
    """The templates in runs that are worked on together."""
    count, templates = rows.shape
    tile = TILE if rows.device.type == 'cpu' else DEVICE_TILE
    width = TILE_MULTIPLE * max(1, tile // (count * TILE_MULTIPLE))
    return [slice(start, min(start + width, templates)) for start in range(0, templates, width)]


class _MatchAndExplain(torch.autograd.Function):
    """Scores and values of rows x (unit vectors), tile by tile over the templates.

    With kernels w, semantic vectors u (both before normalisation) and the batch norm ``a s + b``::

        s_k = scale1 * <w_k / |w_k|, x>,  p_k = ReLU(a_k s_k + b_k),
        v_c = scale2 * <u_c / |u_c|, p> / |p|

    Of the tensors with K channels only s is stored, which the layer's loss needs anyway. The backward
    pass forms p again; with n = 1 / |p|, h_c = scale2 * n * dL/dv_c / |u_c| and
    e = n^2 * sum_c dL/dv_c * v_c::

        dL/dp_k = sum_c u_ck h_c - e p_k
        dL/du_ck = sum_i h_c p_k - u_ck / |u_c|^2 * sum_i dL/dv_c v_c

    BN's backward pass and the gradient of w_k belong to each template alone, so the gradient of the
    scores, to which what comes from the loss is added, exists for one tile at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        scale: Tensor,
        gain: Tensor,
        shift: Tensor,
        semantics: Tensor,
        semantic_scale: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.eps, ctx.batch_statistics = eps, mean is None
        images, _, height, width = x.shape
        # A tensor of its own, not a view of one: autograd handles views of outputs differently.
        scores = torch.empty(
            (images, kernel.size(0), height, width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        x_rows, rows = rows_of(x), scores.permute(0, 2, 3, 1).flatten(0, 2)
        per_template = torch.linalg.vector_norm(kernel, dim=1).clamp_min_(EPS).reciprocal_()
        per_channel = torch.linalg.vector_norm(semantics, dim=1).clamp_min_(EPS).reciprocal_()
        if mean is None or variance is None:
            mean, variance = torch.empty_like(gain), torch.empty_like(gain)
        centre = x_rows.mean(0)
        values = x.new_zeros(len(rows), semantics.size(0))
        squares = x.new_zeros(len(rows))
        for tile in _tiles(rows):
            unit = kernel[tile] * (scale * per_template[tile])[:, None]
            part = product(x_rows, unit)
            rows[:, tile] = part
            if ctx.batch_statistics:
                mean[tile] = unit @ centre
            assigned = part.sub_(mean[tile])
            if ctx.batch_statistics:
                variance[tile] = torch.linalg.vector_norm(assigned, dim=0).square_() / len(rows)
            slope = gain[tile] * (variance[tile] + eps).rsqrt_()
            torch.addcmul(shift[tile], assigned, slope, out=assigned).clamp_(min=0)
            squares += torch.linalg.vector_norm(assigned, dim=1).square_()
            values += product(assigned, semantics[:, tile])
        norms = squares.sqrt_()
        inverse = torch.where(norms > 0, norms.clamp_min(EPS).reciprocal(), 0.0)
        values *= inverse[:, None]
        values *= per_channel
        ctx.save_for_backward(
            x, kernel, scale, gain, shift, semantics, semantic_scale, mean, variance,
            values, inverse, per_channel, scores, per_template,
        )  # fmt: skip
        ctx.mark_non_differentiable(mean, variance)
        return scores, values * semantic_scale, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("KDLayerConnector (implementation='memory_efficient')")
        saved = ctx.saved_tensors
        with full_precision(saved[0]):  # it may be called under autocast too
            return _backward(saved, grads[0], grads[1], ctx.eps, ctx.batch_statistics)


def _backward(
    saved: tuple[Tensor, ...],
    from_scores: Tensor | None,
    upstream: Tensor | None,
    eps: float,
    batch_statistics: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients for the inputs, from those of the scores and of the values.

    Nobody may have used the one or the other; what nothing came from gets no gradient.
    """
    x, kernel, scale, *explaining, scores, per_template = saved
    x_rows, rows = rows_of(x), rows_of(scores)
    score_grads = None if from_scores is None else rows_of(from_scores)
    explain = None if upstream is None else _Explaining(explaining, upstream, eps, batch_statistics)
    d_rows = torch.zeros_like(x_rows)
    d_kernel, lengths = torch.empty_like(kernel), torch.empty_like(per_template)
    for tile in _tiles(rows):
        if explain is not None:
            grad = explain.score_gradient(rows[:, tile], score_grads, tile)
        elif score_grads is not None:
            grad = score_grads[:, tile]
        else:
            return (None,) * 10
        unit = kernel[tile] * per_template[tile, None]
        d_part, d_unit = product_gradients(grad, x_rows, unit)
        d_rows += d_part
        lengths[tile] = (unit * d_unit).sum(1)
        d_unit.sub_(unit.mul_(lengths[tile, None]))
        torch.mul(d_unit, (scale * per_template[tile])[:, None], out=d_kernel[tile])
    d_rows *= scale
    rest = (None,) * 4 if explain is None else explain.gradients()
    d_scale = lengths.sum().view_as(scale)
    return maps_of(d_rows, x), d_kernel, d_scale, *rest, None, None, None


class _Explaining:
    """The backward pass from values to scores, a tile of templates at a time."""

    def __init__(
        self, saved: list[Tensor], upstream: Tensor, eps: float, batch_statistics: bool
    ) -> None:
        (self.gain, self.shift, self.semantics, self.semantic_scale, self.mean, variance,
         values, inverse, per_channel) = saved  # fmt: skip
        products = upstream * values
        self.d_semantic_scale = products.sum().view_as(self.semantic_scale)
        products *= self.semantic_scale
        self.pull = (products.sum(1) * inverse.square())[:, None]
        self.retract = (products.sum(0) * per_channel.square())[:, None]
        self.outer = upstream * (self.semantic_scale * inverse)[:, None] * per_channel
        self.spread = (variance + eps).rsqrt()
        self.batch_statistics = batch_statistics
        self.d_gain, self.d_shift = torch.empty_like(self.gain), torch.empty_like(self.shift)
        self.d_semantics = torch.empty_like(self.semantics)

    def score_gradient(self, part: Tensor, more: Tensor | None, tile: slice) -> Tensor:
        """dL/ds of a tile.

        Args:
            part: Scores of the tile, (M, tile).
            more: A gradient of all scores from elsewhere, (M, K), to be added.
            tile: Which templates.
        """
        mean, spread, semantics = self.mean[tile], self.spread[tile], self.semantics[:, tile]
        slope = self.gain[tile] * spread
        assigned = torch.addcmul(self.shift[tile] - mean * slope, part, slope).clamp_(min=0)
        grad, d_semantics = product_gradients(self.outer, assigned, semantics)
        torch.addcmul(d_semantics, semantics, self.retract, value=-1, out=self.d_semantics[:, tile])
        grad.addcmul_(assigned, self.pull, value=-1).mul_(assigned.sign_())
        d_shift = self.d_shift[tile] = grad.sum(0)
        torch.mul(part, grad, out=assigned)
        d_gain = self.d_gain[tile] = (assigned.sum(0) - mean * d_shift) * spread
        if self.batch_statistics:
            tilt = d_gain * spread / -len(part)
            grad.addcmul_(part, tilt).sub_(mean * tilt + d_shift / len(part))
        if more is None:
            return grad.mul_(slope)
        return torch.addcmul(more[:, tile], grad, slope, out=grad)

    def gradients(self) -> tuple[Tensor, ...]:
        """Those of gain, shift, semantic vectors and semantic scale."""
        return self.d_gain, self.d_shift, self.d_semantics, self.d_semantic_scale


class MemoryEfficientMatch:
    """What stands in for the templates' convolution: it gives the scores, and keeps the values.

    Args:
        bn: Over the K templates; its running statistics are updated by :meth:`values_of`.
        semantics: Makes values of the assignments.
    """

    def __init__(self, bn: nn.BatchNorm2d, semantics: UnitConv2d) -> None:
        self.bn = bn
        self.semantics = semantics

    def __call__(self, templates: UnitConv2d, x: Tensor) -> Tensor:
        """Scores (N, K, H, W) of a feature map (N, C, H, W)."""
        running_mean, running_var = self.bn.running_mean, self.bn.running_var
        batch = self.bn.training or running_mean is None
        x = x.to(templates.weight.dtype)
        self.scores, self.rows, self.mean, self.variance = _MatchAndExplain.apply(
            x * inverse_norm(x),
            templates.weight.flatten(1),
            templates.scale,
            self.bn.weight,
            self.bn.bias,
            self.semantics.weight.flatten(1),
            self.semantics.scale,
            *((None, None) if batch else (running_mean, running_var)),
            self.bn.eps,
        )
        return self.scores

    def values(self) -> Tensor:
        """The values (N, C, H, W) of the scores; updates the batch norm's running statistics."""
        bn = self.bn
        if bn.training and bn.running_mean is not None and bn.running_var is not None:
            momentum = float(bn.momentum or 0.0)
            with torch.no_grad():
                positions = len(self.rows)
                bn.num_batches_tracked.add_(1)  # type: ignore[union-attr]
                bn.running_mean.lerp_(self.mean, momentum)
                bn.running_var.lerp_(self.variance * (positions / (positions - 1)), momentum)
        return maps_of(self.rows, self.scores)
