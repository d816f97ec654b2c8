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
    add_product,
    add_product_gradients,
    maps_of,
    product,
    product_gradients,
    refuse_second_derivative,
    rows_of,
)
from mmkdlayer.precision import float32_products

from . import elementwise
from .unit_conv import EPS, UnitConv2d, shortest

#: Scores in one tile on a CPU: 3 MiB in float32, so that its temporaries stay in the cache.
TILE = 3 << 18
#: Fewer templates than these make slow products. So a tile has as many, or a quarter of all if these are
#: fewer, also where that is more than the cache holds.
TILE_WIDTH = 384
#: On other devices a tile has this many scores (96 MiB), or a quarter of all if that is more. So few
#: kernels are started for a batch of any size, and the two temporaries take half of the scores' memory.
#: On an H200 one tile takes 0.92 to 0.95 of the time, 1.4 to 1.5 of the memory (benchmarks/README.md).
DEVICE_TILE = 3 << 23
MOST_DEVICE_TILES = 4
#: Scores of a batch below which the plain formula is faster and its memory does not matter.
MIN_SCORES = 1 << 17
#: The number of templates in a tile is a multiple of this.
TILE_MULTIPLE = 64


class MemoryEfficientMatch:
    """Stands in for the templates' convolution: it gives the scores, and keeps the values.

    ``bn`` is over the K templates; its running statistics are updated by :meth:`values`.
    ``kernels`` is a module with the functions of :mod:`elementwise`.
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
        self.scores, self.values_MC, self.mean_K, self.var_K = _MatchAndExplain.apply(
            x,
            templates.weight.flatten(1),
            templates.scale,
            self.bn.weight,
            self.bn.bias,
            self.semantics.weight.flatten(1),
            self.semantics.scale,
            *((None, None) if batch else (running_mean, running_var)),
            self.bn.eps,
            self.kernels,
            templates.precision,
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
    """Scores and values of a feature map, tile by tile over the templates."""

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
        precision: str,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.kernels, ctx.precision, ctx.x_dtype = kernels, precision, x.dtype
        ctx.batch_statistics = mean_K is None or var_K is None
        images, _, height, width = x.shape
        # A tensor of its own, not a view of one: autograd handles views of outputs differently.
        scores = torch.empty(
            (images, w_KC.size(0), height, width),
            dtype=w_KC.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        s_MK = scores.permute(0, 2, 3, 1).flatten(0, 2)
        x_MC = rows_of(x).to(w_KC.dtype)
        norm_M = torch.linalg.vector_norm(x_MC, dim=1)
        x_MC = x_MC * norm_M.clamp_min(EPS).reciprocal_()[:, None]
        w_inverse_K = torch.linalg.vector_norm(w_KC, dim=1).clamp_min_(EPS).reciprocal_()
        u_inverse_C = torch.linalg.vector_norm(u_CK, dim=1).clamp_min_(EPS).reciprocal_()
        if mean_K is None or var_K is None:
            mean_K, var_K = torch.empty_like(gain_K), torch.empty_like(gain_K)
        deviation_inverse_K, slope_K, offset_K = gain_K.new_empty(3, len(gain_K))

        in_cache = x.device.type == 'cpu'

        def match(part: slice) -> Tensor:
            """The scores of some templates, and what makes assignments of them."""
            kernel = w_KC[part] * (s1 * w_inverse_K[part])[:, None]
            if in_cache:
                s = s_MK[:, part] = product(x_MC, kernel)  # s itself is overwritten below
            else:
                s = product(x_MC, kernel, out=s_MK[:, part])
            if ctx.batch_statistics:
                mean_K[part], var_K[part] = kernels.mean_and_variance(s)
            torch.add(var_K[part], eps, out=deviation_inverse_K[part]).rsqrt_()
            torch.mul(gain_K[part], deviation_inverse_K[part], out=slope_K[part])
            torch.addcmul(shift_K[part], mean_K[part], slope_K[part], value=-1, out=offset_K[part])
            return s

        squares_M = v_MC = None
        for group, tiles in _groups(s_MK):
            s = match(group)
            for tile in tiles:
                s_MT = s if tile is group else s_MK[:, tile]
                p_MT, more_M = kernels.assign_with_squares(
                    s_MT, slope_K[tile], offset_K[tile], out=s_MT if in_cache else None
                )
                squares_M = more_M if squares_M is None else squares_M.add_(more_M)
                v_MC = add_product(v_MC, p_MT, u_CK[:, tile])
        assert squares_M is not None and v_MC is not None
        p_inverse_M = squares_M.clamp_min_(EPS**2).rsqrt_()
        v_MC *= p_inverse_M[:, None]
        ctx.save_for_backward(
            scores, x_MC, norm_M, w_KC, s1, w_inverse_K,
            slope_K, offset_K, u_CK, s2, mean_K, deviation_inverse_K, v_MC, p_inverse_M, u_inverse_C,
        )  # fmt: skip
        ctx.mark_non_differentiable(mean_K, var_K)
        return scores, v_MC * (s2 * u_inverse_C), mean_K, var_K

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("KDLayerConnector (implementation='memory_efficient')")
        d_scores, d_v_MC = grads[:2]
        scores, x_MC, norm_M, w_KC, s1, w_inverse_K, *rest = ctx.saved_tensors
        if d_scores is None and d_v_MC is None:
            return (None,) * 12
        with float32_products(scores.device, ctx.precision):  # it may be called under autocast too
            s_MK = rows_of(scores)
            loss_d_s_MK = None if d_scores is None else rows_of(d_scores).contiguous()
            explained = None
            if d_v_MC is not None:
                explained = _ExplainBackward(rest, d_v_MC, ctx)
            d_x_MC = None
            d_w_KC, lengths_K = torch.empty_like(w_KC), torch.empty_like(w_inverse_K)
            for group, tiles in _groups(s_MK):
                unit = w_KC[group] * w_inverse_K[group, None]
                for tile in tiles:
                    d_s_MT = None if loss_d_s_MK is None else loss_d_s_MK[:, tile]
                    if explained is not None:
                        d_s_MT = explained.score_gradient(s_MK[:, tile], d_s_MT, tile)
                    assert d_s_MT is not None
                    unit_TC = unit if tile is group else unit[tile]
                    d_x_MC = add_product_gradients(d_x_MC, d_w_KC[tile], d_s_MT, x_MC, unit_TC)
                g = d_w_KC[group]  # sum_i d_s_k x_i, turned into the kernels' gradient in place
                torch.sum(unit * g, 1, out=lengths_K[group])
                g.addcmul_(unit, lengths_K[group, None], value=-1)
                g.mul_((s1 * w_inverse_K[group])[:, None])
            assert d_x_MC is not None
            # Back through the normalisation of x; a position that is zero gets no gradient.
            along_M1 = (d_x_MC * x_MC).sum(1, keepdim=True)
            x_inverse_M = norm_M.clamp_min(shortest(ctx.x_dtype)).reciprocal_()
            x_inverse_M.mul_(s1).mul_(norm_M.sign())
            d_x_MC.addcmul_(x_MC, along_M1, value=-1).mul_(x_inverse_M[:, None])
        d_s1 = lengths_K.sum().view_as(s1)
        d_rest = (None,) * 4 if explained is None else explained.parameter_gradients()
        d_x = maps_of(d_x_MC, scores).to(ctx.x_dtype)
        return d_x, d_w_KC, d_s1, *d_rest, None, None, None, None, None


class _ExplainBackward:
    """The backward pass from values to scores, a tile of templates at a time."""

    def __init__(self, saved: list[Tensor], d_v_MC: Tensor, ctx: Any) -> None:
        (self.slope_K, self.offset_K, self.u_CK, s2, self.mean_K, self.deviation_inverse_K,
         v_MC, p_inverse_M, u_inverse_C) = saved  # fmt: skip
        scale_C = s2 * u_inverse_C  # v_MC is without it, as it was saved
        agreement_MC = d_v_MC * v_MC
        agreement_C = agreement_MC.sum(0)
        self.d_s2 = torch.dot(agreement_C, u_inverse_C).view_as(s2)
        self.u_factor_C1 = (agreement_C * scale_C * u_inverse_C.square())[:, None]
        self.p_factor_M = (agreement_MC @ scale_C).mul_(p_inverse_M.square())
        self.h_MC = torch.mul(d_v_MC, p_inverse_M[:, None], out=agreement_MC).mul_(scale_C)
        self.batch_statistics, self.kernels = ctx.batch_statistics, ctx.kernels
        self.tilting_K = self.deviation_inverse_K / -len(v_MC)
        self.d_gain_K, self.d_shift_K = torch.empty_like(self.mean_K), torch.empty_like(self.mean_K)
        self.d_u_CK = torch.empty_like(self.u_CK)

    def score_gradient(self, s_MT: Tensor, loss_d_s_MT: Tensor | None, tile: slice) -> Tensor:
        """The gradient d_s of the scores of a tile, (M, T), with one from elsewhere added."""
        mean_T, u_CT, slope_T = self.mean_K[tile], self.u_CK[:, tile], self.slope_K[tile]
        p_MT = self.kernels.assign(s_MT, slope_T, self.offset_K[tile])
        d_p_MT, d_u_CT = product_gradients(self.h_MC, p_MT, u_CT)
        torch.addcmul(d_u_CT, u_CT, self.u_factor_C1, value=-1, out=self.d_u_CK[:, tile])
        g_MT, d_shift_T, d_gain_T = self.kernels.masked_gradient(
            d_p_MT, p_MT, s_MT, self.p_factor_M
        )
        self.d_shift_K[tile] = d_shift_T
        d_gain_T.addcmul_(mean_T, d_shift_T, value=-1)
        torch.mul(d_gain_T, self.deviation_inverse_K[tile], out=self.d_gain_K[tile])
        tilt_T = shift_T = None
        if self.batch_statistics:
            tilt_T = self.d_gain_K[tile] * self.tilting_K[tile]
            shift_T = torch.addcmul(d_shift_T / len(s_MT), mean_T, tilt_T)
        return self.kernels.score_gradient(g_MT, s_MT, slope_T, tilt_T, shift_T, loss_d_s_MT)

    def parameter_gradients(self) -> tuple[Tensor, ...]:
        """Those of the batch norm's gain and shift, of the semantic vectors and of their scale."""
        return self.d_gain_K, self.d_shift_K, self.d_u_CK, self.d_s2


def _groups(s_MK: Tensor) -> list[tuple[slice, list[slice]]]:
    """The templates in groups whose scores are made together, and each group's tiles.

    On a CPU a group is one tile, which is in its cache then; elsewhere there is one group.
    """
    count, templates = s_MK.shape
    if s_MK.device.type == 'cpu':
        width = max(TILE // count, min(TILE_WIDTH, templates // 4))
        width = TILE_MULTIPLE * max(1, width // TILE_MULTIPLE)
        return [(tile, [tile]) for tile in _runs(templates, width)]
    parts = min(MOST_DEVICE_TILES, -(-s_MK.numel() // DEVICE_TILE))
    tiles = _runs(templates, TILE_MULTIPLE * -(-templates // (TILE_MULTIPLE * max(1, parts))))
    return [(tiles[0] if len(tiles) == 1 else slice(0, templates), tiles)]


def _runs(count: int, width: int) -> list[slice]:
    return [slice(start, min(start + width, count)) for start in range(0, count, width)]
