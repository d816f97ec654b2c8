# mypy: allow-untyped-defs
"""The loss as Triton kernels: the one tensor of (M, K) numbers that it writes is the gradient.

Only imported where ``implementation='triton'`` trains. A block has 2048 numbers: 8 for each of the 256
threads of a program. The forward pass takes whole rows, block after block, and reads those of scores and
targets twice, shortly after each other, so the second time comes from a cache. The backward pass reads
both once.

Offsets are int64, since a matrix may have more than 2^31 numbers. NaN stays NaN.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmkdlayer.models.decisions.row_targets import RowTargets
from mmkdlayer.models.ops import maps_of, refuse_second_derivative, rows_of
from mmkdlayer.precision import float32_products

#: Numbers of a block, and its threads / 32.
BLOCK, WARPS = 2048, 8
#: Finite, so that a difference of two of them is a number.
LOWEST = tl.constexpr(-3e38)


@triton.jit
def _log_sum_exp(
    values, of_row, columns, dtype: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """The largest number m of each row and ``log sum exp(value - m)``, both (ROWS, 1).

    They are kept apart because their sum would have the rounding error of a large number. Each place of
    the block first has a largest number of its own.
    """
    largest = tl.full([ROWS, COLUMNS], LOWEST, dtype)
    total = tl.zeros([ROWS, COLUMNS], dtype)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        inside = of_row & (column < columns)
        value = tl.load(values + column, mask=inside, other=0.0).to(dtype)
        larger = tl.where(inside, tl.maximum(largest, value), largest)
        total *= tl.exp(largest - larger)
        total += tl.where(inside, tl.exp(value - larger), 0.0)
        largest = larger
    most = tl.max(largest, 1)[:, None]
    return most, tl.log(tl.sum(total * tl.exp(largest - most), 1)[:, None])


@triton.jit
def divergences(
    scores, targets, index, found, score_sums, target_sums,
    rows, columns, all_rows, score_stride, target_stride,
    ARE_LOGITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``sum_k p_k (log p_k - log softmax(score)_k)`` of each row, and what softmax needs again.

    The two of :func:`_log_sum_exp` lie one after the other, for all rows each.
    """
    dtype: tl.constexpr = found.dtype.element_ty
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    of_row = row < rows
    scores += row.to(tl.int64) * score_stride
    score_most, score_log = _log_sum_exp(scores, of_row, columns, dtype, ROWS, COLUMNS)
    tl.store(score_sums + row, score_most, mask=of_row)
    tl.store(score_sums + all_rows + row, score_log, mask=of_row)
    if ARE_LOGITS:
        targets += row.to(tl.int64) * target_stride
        target_most, target_log = _log_sum_exp(targets, of_row, columns, dtype, ROWS, COLUMNS)
        tl.store(target_sums + row, target_most, mask=of_row)
        tl.store(target_sums + all_rows + row, target_log, mask=of_row)
    else:
        targets += tl.load(index + row, mask=of_row, other=0) * target_stride
    total = tl.zeros([ROWS, COLUMNS], dtype)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        inside = of_row & (column < columns)
        score = tl.load(scores + column, mask=inside, other=0.0).to(dtype)
        score = score - score_most - score_log
        target = tl.load(targets + column, mask=inside, other=0.0).to(dtype)
        if ARE_LOGITS:
            target = target - target_most - target_log
            term = tl.exp(target) * (target - score)
        else:  # 0 log 0 is 0
            term = target * (tl.log(tl.where(target == 0, 1.0, target)) - score)
        total += tl.where(inside, term, 0.0)
    tl.store(found + row, tl.sum(total, 1)[:, None], mask=of_row)


@triton.jit
def _softmax(values, sums, all_rows, of_row):
    most = tl.load(sums, mask=of_row, other=0.0)
    return tl.exp(values - most - tl.load(sums + all_rows, mask=of_row, other=0.0))


@triton.jit
def divergence_gradients(
    scores, targets, index, score_sums, target_sums, factor, grads,
    rows, columns, all_rows, score_stride, target_stride,
    ARE_LOGITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``(softmax(score) - p) * factor``, written to contiguous rows."""
    dtype: tl.constexpr = score_sums.dtype.element_ty
    blocks = tl.cdiv(columns, COLUMNS)
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    of_row = row < rows
    inside = of_row & (column < columns)
    score = tl.load(scores + row.to(tl.int64) * score_stride + column, mask=inside, other=0.0)
    grad = _softmax(score.to(dtype), score_sums + row, all_rows, of_row)
    if ARE_LOGITS:
        targets += row.to(tl.int64) * target_stride
    else:
        targets += tl.load(index + row, mask=of_row, other=0) * target_stride
    target = tl.load(targets + column, mask=inside, other=0.0).to(dtype)
    if ARE_LOGITS:
        target = _softmax(target, target_sums + row, all_rows, of_row)
    grad = (grad - target) * tl.load(factor)
    place = row.to(tl.int64) * columns + column
    tl.store(grads + place, grad.to(grads.dtype.element_ty), mask=inside)


class FusedDivergence(torch.autograd.Function):
    """``mean_i KL(p(i) || softmax(score(i)))`` for targets that :meth:`RowTargets.matrix` gives.

    Kept are the scores, two to four numbers for each position, and what the targets are made of. As in
    the plain way the gradient is made in the forward pass already where making p is costly.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, targets: RowTargets, parts: list[slice]) -> Tensor:
        """The loss of scores (N, K, H, W), in float32 or better, logits in runs of positions."""
        rows = rows_of(scores).contiguous()  # a view of one image may have other strides
        dtype = torch.promote_types(rows.dtype, torch.float32)
        found = rows.new_empty(len(rows), dtype=dtype)
        sums = rows.new_empty(2, 2, len(rows), dtype=dtype)
        height, width = _block(rows.size(1))
        early = targets.is_costly and ctx.needs_input_grad[0] and rows.dtype == dtype
        d_rows = torch.empty_like(rows, memory_format=torch.contiguous_format) if early else None
        share = found.new_full((), 1 / len(rows)) if early else None
        if targets.matrix_kind == 'table':
            parts = [slice(0, len(rows))]
        with float32_products(rows.device, targets.precision), torch.cuda.device_of(rows):
            for part in parts:
                matrix, index = targets.matrix(part)
                divergences[(triton.cdiv(part.stop - part.start, height),)](
                    rows[part], matrix, matrix if index is None else index,
                    found[part], *sums[:, :, part], part.stop - part.start, *_sizes(rows, matrix),
                    index is None, height, width, num_warps=WARPS,
                )  # fmt: skip
                if d_rows is not None and share is not None:
                    _write_gradient(rows, part, (matrix, index), sums, share, d_rows)
        ctx.targets, ctx.parts, ctx.d_rows = targets, parts, d_rows
        ctx.save_for_backward(scores, sums)
        return found.mean()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the scores."""
        refuse_second_derivative("TeacherDecisionLoss (implementation='triton')")
        scores, sums = ctx.saved_tensors
        rows = rows_of(scores).contiguous()  # a view of one image may have other strides
        d_rows, ctx.d_rows = ctx.d_rows, None  # it becomes autograd's: a second pass makes another
        if d_rows is not None:
            return maps_of(d_rows.mul_(grad_outputs[0]), scores), None, None
        d_rows = torch.empty_like(rows, memory_format=torch.contiguous_format)
        factor = grad_outputs[0].to(sums.dtype) / len(rows)
        with float32_products(rows.device, ctx.targets.precision), torch.cuda.device_of(rows):
            for part in ctx.parts:
                _write_gradient(rows, part, ctx.targets.matrix(part), sums, factor, d_rows)
        return maps_of(d_rows, scores), None, None


def _write_gradient(
    rows: Tensor,
    part: slice,
    target: tuple[Tensor, Tensor | None],
    sums: Tensor,
    factor: Tensor,
    d_rows: Tensor,
) -> None:
    """The gradient of some rows, times a factor that is on the device."""
    matrix, index = target
    count = part.stop - part.start
    height, width = _block(rows.size(1))
    divergence_gradients[(triton.cdiv(count, height) * triton.cdiv(rows.size(1), width),)](
        rows[part], matrix, matrix if index is None else index,
        *sums[:, :, part], factor, d_rows[part], count, *_sizes(rows, matrix),
        index is None, height, width, num_warps=WARPS,
    )  # fmt: skip


def _sizes(rows: Tensor, matrix: Tensor) -> tuple[int, int, int, int]:
    return rows.size(1), rows.size(0), rows.stride(0), matrix.stride(0)


def _block(columns: int) -> tuple[int, int]:
    """Rows and columns of a block of at most :data:`BLOCK` numbers."""
    width = min(BLOCK, triton.next_power_of_2(columns))
    return min(16, BLOCK // width), width
