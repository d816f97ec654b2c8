"""The KD layer from feature map to values, which keeps the scores and nothing else of their size.

Notation: M = N*H*W positions, C channels, K templates, T the templates of one tile; a suffix gives a
tensor's shape, ``d_x`` is the gradient dL/dx. Derivation, with x_i a unit vector, kernels w and semantic
vectors u before normalisation, and the batch norm as ``a_k s_k + b_k``::

    s_k = s1 * <w_k / |w_k|, x>        p_k = ReLU(a_k s_k + b_k)
    v_c = s2 * <u_c / |u_c|, p> / |p|

Of the tensors with K channels only s is stored, which the layer's loss needs anyway; the backward pass
forms p again. With n = 1 / |p| and h_c = s2 * n * d_v_c / |u_c|::

    d_p_k  = sum_c u_ck h_c - p_k * n^2 * sum_c d_v_c v_c
    d_u_ck = sum_i h_c p_k  - u_ck / |u_c|^2 * sum_i d_v_c v_c

The batch norm's backward pass and the gradient of w_k concern one template each, so d_s, to which what
comes from the loss is added, exists for one tile at a time::

    d_s_k  = a_k * (d_p_k - mean_i d_p_k - s^_k * mean_i (s^_k d_p_k)),   s^ normalised, where p_k > 0
    d_w_k  = s1 / |w_k| * (g - <g, w_k / |w_k|> w_k / |w_k|),             g = sum_i d_s_k x_i
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.models.ops import (
    full_precision,
    maps_of,
    product,
    product_gradients,
    refuse_second_derivative,
    rows_of,
)

from . import elementwise
from .unit_conv import EPS, UnitConv2d, inverse_norm

#: Scores in one tile: 1.5 MiB in float32 on a CPU, whose cache its temporaries stay in. On other devices
#: fewer, larger kernels are started.
TILE = 3 << 17
DEVICE_TILE = 1 << 24
#: Scores of a batch below which the plain formula is faster and its memory does not matter.
MIN_SCORES = 1 << 17
#: The number of templates in a tile is a multiple of this.
TILE_MULTIPLE = 64


class MemoryEfficientMatch:
    """Stands in for the templates' convolution: it gives the scores, and keeps the values.

    Args:
        bn: Over the K templates; its running statistics are updated by :meth:`values`.
        semantics: Makes values of the assignments.
        kernels: A module with the functions of :mod:`elementwise`.
    """

    def __init__(
        self, bn: nn.BatchNorm2d, semantics: UnitConv2d, kernels: ModuleType = elementwise
    ) -> None:
        self.bn = bn
        self.semantics = semantics
        self.kernels = kernels

    def __call__(self, templates: UnitConv2d, x: Tensor) -> Tensor:
        """Scores (N, K, H, W) of a feature map (N, C, H, W)."""
        running_mean, running_var = self.bn.running_mean, self.bn.running_var
        batch = self.bn.training or running_mean is None
        x = x.to(templates.weight.dtype)
        self.scores, self.values_MC, self.mean_K, self.var_K = _MatchAndExplain.apply(
            x * inverse_norm(x),
            templates.weight.flatten(1),
            templates.scale,
            self.bn.weight,
            self.bn.bias,
            self.semantics.weight.flatten(1),
            self.semantics.scale,
            *((None, None) if batch else (running_mean, running_var)),
            self.bn.eps,
            self.kernels,
        )
        return self.scores

    def values(self) -> Tensor:
        """The values (N, C, H, W) of the scores; updates the batch norm's running statistics."""
        bn = self.bn
        if bn.training and bn.running_mean is not None and bn.running_var is not None:
            momentum = float(bn.momentum or 0.0)
            with torch.no_grad():
                count = len(self.values_MC)
                bn.num_batches_tracked.add_(1)  # type: ignore[union-attr]
                bn.running_mean.lerp_(self.mean_K, momentum)
                bn.running_var.lerp_(self.var_K * (count / (count - 1)), momentum)
        return maps_of(self.values_MC, self.scores)


class _MatchAndExplain(torch.autograd.Function):
    """Scores and values of a map of unit vectors, tile by tile over the templates."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_KC: Tensor,
        s1: Tensor,
        gain_K: Tensor,
        shift_K: Tensor,
        u_CK: Tensor,
        s2: Tensor,
        mean_K: Tensor | None,
        var_K: Tensor | None,
        eps: float,
        kernels: ModuleType,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.kernels = kernels
        ctx.eps, ctx.batch_statistics = eps, mean_K is None
        images, _, height, width = x.shape
        # A tensor of its own, not a view of one: autograd handles views of outputs differently.
        scores = torch.empty(
            (images, w_KC.size(0), height, width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        x_MC, s_MK = rows_of(x), scores.permute(0, 2, 3, 1).flatten(0, 2)
        w_inverse_K = torch.linalg.vector_norm(w_KC, dim=1).clamp_min_(EPS).reciprocal_()
        u_inverse_C = torch.linalg.vector_norm(u_CK, dim=1).clamp_min_(EPS).reciprocal_()
        if mean_K is None or var_K is None:
            mean_K, var_K = torch.empty_like(gain_K), torch.empty_like(gain_K)
        v_MC = x.new_zeros(len(s_MK), u_CK.size(0))
        squares_M = x.new_zeros(len(s_MK))
        for tile in _tiles(s_MK):
            unit_TC = w_KC[tile] * (s1 * w_inverse_K[tile])[:, None]
            p_MT = product(x_MC, unit_TC)  # the scores, turned into the assignments in place
            s_MK[:, tile] = p_MT
            if ctx.batch_statistics:
                mean_K[tile], var_K[tile] = kernels.mean_and_variance(p_MT)
            slope_T = gain_K[tile] * (var_K[tile] + eps).rsqrt_()
            offset_T = torch.addcmul(shift_K[tile], mean_K[tile], slope_T, value=-1)
            p_MT, squares_part_M = kernels.assign_with_squares(p_MT, slope_T, offset_T, out=p_MT)
            squares_M += squares_part_M
            v_MC += product(p_MT, u_CK[:, tile])
        norm_M = squares_M.sqrt_()
        p_inverse_M = torch.where(norm_M > 0, norm_M.clamp_min(EPS).reciprocal(), 0.0)
        v_MC *= p_inverse_M[:, None]
        v_MC *= u_inverse_C
        ctx.save_for_backward(
            x, w_KC, s1, w_inverse_K, scores,
            gain_K, shift_K, u_CK, s2, mean_K, var_K, v_MC, p_inverse_M, u_inverse_C,
        )  # fmt: skip
        ctx.mark_non_differentiable(mean_K, var_K)
        return scores, v_MC * s2, mean_K, var_K

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("KDLayerConnector (implementation='memory_efficient')")
        d_scores, d_v_MC = grads[:2]
        x, w_KC, s1, w_inverse_K, scores, *rest = ctx.saved_tensors
        if d_scores is None and d_v_MC is None:
            return (None,) * 11
        with full_precision(x):  # it may be called under autocast too
            x_MC, s_MK = rows_of(x), rows_of(scores)
            loss_d_s_MK = None if d_scores is None else rows_of(d_scores)
            explained = None
            if d_v_MC is not None:
                explained = _ExplainBackward(rest, d_v_MC, ctx)
            d_x_MC = torch.zeros_like(x_MC)
            d_w_KC, lengths_K = torch.empty_like(w_KC), torch.empty_like(w_inverse_K)
            for tile in _tiles(s_MK):
                d_s_MT = None if loss_d_s_MK is None else loss_d_s_MK[:, tile]
                if explained is not None:
                    d_s_MT = explained.score_gradient(s_MK[:, tile], d_s_MT, tile)
                assert d_s_MT is not None
                unit_TC = w_KC[tile] * w_inverse_K[tile, None]
                d_part_MC, g_TC = product_gradients(d_s_MT, x_MC, unit_TC)
                d_x_MC += d_part_MC
                lengths_K[tile] = (unit_TC * g_TC).sum(1)
                g_TC.sub_(unit_TC.mul_(lengths_K[tile, None]))
                torch.mul(g_TC, (s1 * w_inverse_K[tile])[:, None], out=d_w_KC[tile])
            d_x_MC *= s1
        d_s1 = lengths_K.sum().view_as(s1)
        d_rest = (None,) * 4 if explained is None else explained.parameter_gradients()
        return maps_of(d_x_MC, x), d_w_KC, d_s1, *d_rest, None, None, None, None


class _ExplainBackward:
    """The backward pass from values to scores, a tile of templates at a time."""

    def __init__(self, saved: list[Tensor], d_v_MC: Tensor, ctx: Any) -> None:
        (self.gain_K, self.shift_K, self.u_CK, self.s2, self.mean_K, var_K,
         v_MC, p_inverse_M, u_inverse_C) = saved  # fmt: skip
        # v_MC is without s2, as it was saved.
        agreement_MC = d_v_MC * v_MC
        self.d_s2 = agreement_MC.sum().view_as(self.s2)
        agreement_MC *= self.s2
        self.p_factor_M = agreement_MC.sum(1) * p_inverse_M.square()
        self.u_factor_C1 = (agreement_MC.sum(0) * u_inverse_C.square())[:, None]
        self.h_MC = d_v_MC * (self.s2 * p_inverse_M)[:, None] * u_inverse_C
        self.deviation_inverse_K = (var_K + ctx.eps).rsqrt()
        self.batch_statistics, self.kernels = ctx.batch_statistics, ctx.kernels
        self.d_gain_K, self.d_shift_K = torch.empty_like(self.gain_K), torch.empty_like(self.gain_K)
        self.d_u_CK = torch.empty_like(self.u_CK)

    def score_gradient(self, s_MT: Tensor, loss_d_s_MT: Tensor | None, tile: slice) -> Tensor:
        """The gradient d_s of a tile, (M, T).

        Args:
            s_MT: Scores of the tile.
            loss_d_s_MT: A gradient of the scores from elsewhere, to be added.
            tile: Which templates.
        """
        mean_T, u_CT = self.mean_K[tile], self.u_CK[:, tile]
        inverse_T = self.deviation_inverse_K[tile]
        slope_T = self.gain_K[tile] * inverse_T
        offset_T = torch.addcmul(self.shift_K[tile], mean_T, slope_T, value=-1)
        p_MT = self.kernels.assign(s_MT, slope_T, offset_T)
        d_p_MT, d_u_CT = product_gradients(self.h_MC, p_MT, u_CT)
        torch.addcmul(d_u_CT, u_CT, self.u_factor_C1, value=-1, out=self.d_u_CK[:, tile])
        g_MT, d_shift_T, weighted_T = self.kernels.masked_gradient(
            d_p_MT, p_MT, s_MT, self.p_factor_M
        )
        self.d_shift_K[tile] = d_shift_T
        d_gain_T = self.d_gain_K[tile] = (weighted_T - mean_T * d_shift_T) * inverse_T
        tilt_T = shift_T = None
        if self.batch_statistics:
            tilt_T = d_gain_T * inverse_T / -len(s_MT)
            shift_T = mean_T * tilt_T + d_shift_T / len(s_MT)
        return self.kernels.score_gradient(g_MT, s_MT, slope_T, tilt_T, shift_T, loss_d_s_MT)

    def parameter_gradients(self) -> tuple[Tensor, ...]:
        """Those of the batch norm's gain and shift, of the semantic vectors and of their scale."""
        return self.d_gain_K, self.d_shift_K, self.d_u_CK, self.d_s2


def _tiles(s_MK: Tensor) -> list[slice]:
    """The templates in runs that are worked on together."""
    count, templates = s_MK.shape
    tile = TILE if s_MK.device.type == 'cpu' else DEVICE_TILE
    width = TILE_MULTIPLE * max(1, tile // (count * TILE_MULTIPLE))
    return [slice(start, min(start + width, templates)) for start in range(0, templates, width)]
