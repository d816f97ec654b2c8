"""The element-wise parts of the memory-efficient KD layer, for a tile of M positions by T templates.

They read and write matrices of M x T numbers a few times and calculate little: what they cost is memory
traffic and, on a GPU, kernels to start. Everything else of the layer is matrix products. With slopes and
offsets of the batch norm, the assignments of scores s are ``p = max(s * slope + offset, 0)``.

A tile of scores may be a view of columns of a larger matrix; other (M, T) tensors are contiguous.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_and_variance(s_MT: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each template's scores, both of shape (T,).

    Not as the difference of two sums, which loses the variance of scores far from zero.
    """
    if s_MT.device.type == 'cpu':  # where torch.var_mean over rows takes three times as long
        mean_T = s_MT.mean(0)
        return mean_T, (s_MT - mean_T).square_().mean(0)
    var_T, mean_T = torch.var_mean(s_MT, 0, correction=0)
    return mean_T, var_T


def assign(s_MT: Tensor, slope_T: Tensor, offset_T: Tensor, out: Tensor | None = None) -> Tensor:
    """The assignments (M, T) of scores, by slope and offset of each template, both (T,).

    They are written to ``out``, which may be the scores themselves; None for a new tensor.
    """
    return torch.addcmul(offset_T, s_MT, slope_T, out=out).relu_()


def assign_with_squares(
    s_MT: Tensor, slope_T: Tensor, offset_T: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As :func:`assign`, with the squared length ``sum_T p^2`` of each position's, shape (M,)."""
    p_MT = assign(s_MT, slope_T, offset_T, out)
    return p_MT, torch.linalg.vector_norm(p_MT, dim=1).square_()


def masked_gradient(
    d_p_MT: Tensor, p_MT: Tensor, s_MT: Tensor, factor_M: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient behind the ReLU, and what the batch norm's backward pass needs of it.

    ``g = d_p - p * factor`` where p > 0, and 0 elsewhere: d_p is the gradient of the assignments,
    but for the part that comes through their length, which is a factor (M,) of each position's.
    Both ``d_p_MT`` and ``p_MT`` may be overwritten, and g be in the memory of either.

    Returns:
        g, shape (M, T), ``sum_M g`` and ``sum_M s * g``, both of shape (T,).
    """
    g_MT = d_p_MT.addcmul_(p_MT, factor_M[:, None], value=-1)
    if p_MT.device.type == 'cpu':  # where this is faster than one operation
        g_MT.mul_(p_MT.sign_())
    else:
        torch.ops.aten.threshold_backward(g_MT, p_MT, 0, grad_input=g_MT)
    return g_MT, g_MT.sum(0), torch.mul(s_MT, g_MT, out=p_MT).sum(0)


def score_gradient(
    g_MT: Tensor,
    s_MT: Tensor,
    slope_T: Tensor,
    tilt_T: Tensor | None,
    shift_T: Tensor | None,
    loss_d_s_MT: Tensor | None,
) -> Tensor:
    """The gradient of the scores, ``(g + s * tilt - shift) * slope``, plus one from elsewhere.

    ``tilt_T`` and ``shift_T`` say how it goes through variance and mean; None where these are constants.
    ``g_MT`` may be overwritten, ``loss_d_s_MT`` not; that one may be a view of columns.

    Returns:
        Shape (M, T), contiguous.
    """
    if tilt_T is not None and shift_T is not None:
        g_MT.addcmul_(s_MT, tilt_T).sub_(shift_T)
    if loss_d_s_MT is None:
        return g_MT.mul_(slope_T)
    return torch.addcmul(loss_d_s_MT, g_MT, slope_T, out=g_MT)
