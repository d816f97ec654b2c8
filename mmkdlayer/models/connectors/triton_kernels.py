# mypy: allow-untyped-defs
"""The functions of :mod:`elementwise` as Triton kernels, which read and write each matrix once.

Only imported where ``implementation='triton'`` trains. Products stay with the matrix library.

There are two kinds of kernels. Where each number or row is by itself, a program takes a block of 4096
numbers: 16 for each of its 256 threads, which load 16 bytes at a time. Where columns are summed, a
program takes 128 columns (512 bytes of a row: one load of a warp) and a run of rows, 16 at a time, and
keeps the sums of each of the 16 apart, so its 128 threads meet only at its end; each has 2 sums for 16
places in its registers. The sums of the runs are added up by a second kernel. Nothing is added
atomically, and sizes follow from shapes alone: results are the same in each run.

Offsets are int64, since a matrix may have more than 2^31 numbers. NaN stays NaN.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Numbers of a block where each is by itself, its threads / 32, and its columns at most.
BLOCK, WARPS = 4096, 8
MOST_COLUMNS = 1024
#: Rows and columns of a block where columns are summed, and its threads / 32.
SUM_ROWS, SUM_COLUMNS, SUM_WARPS = 16, 128, 4
#: Programs that are wanted where columns are summed, some 8 for each multiprocessor of a large card; and
#: runs of rows at most.
SUM_PROGRAMS, MOST_RUNS = 1024, 256
#: Columns of a program that adds up runs.
ADD_COLUMNS = 32


@triton.jit
def statistics_of_runs(
    s, means, squares, rows, columns, stride, run,
    SUM_ROWS: tl.constexpr, SUM_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Mean and squared deviations of a run of rows, by Welford's method in each row in turn."""
    column = tl.program_id(1) * SUM_COLUMNS + tl.arange(0, SUM_COLUMNS)[None, :]
    first = tl.program_id(0) * run + tl.arange(0, SUM_ROWS)[:, None]
    mean = tl.zeros([SUM_ROWS, SUM_COLUMNS], s.dtype.element_ty)
    square = tl.zeros([SUM_ROWS, SUM_COLUMNS], s.dtype.element_ty)
    count = tl.zeros([SUM_ROWS, 1], s.dtype.element_ty)
    for start in range(0, run, SUM_ROWS):
        row = first + start
        count += tl.where(row < rows, 1.0, 0.0)
        inside = (row < rows) & (column < columns)
        value = tl.load(s + row.to(tl.int64) * stride + column, mask=inside, other=0.0)
        delta = tl.where(inside, value - mean, 0.0)
        mean += delta * (
            1.0 / tl.maximum(count, 1.0)
        )  # a division for each row, not for each number
        square += delta * tl.where(inside, value - mean, 0.0)
    total = tl.sum(count)
    run_mean = tl.sum(mean * count, 0)[None, :] / total
    deviation = mean - run_mean
    run_square = tl.sum(square + deviation * deviation * count, 0)[None, :]
    place = tl.program_id(0).to(tl.int64) * columns + column
    tl.store(means + place, run_mean, mask=column < columns)
    tl.store(squares + place, run_square, mask=column < columns)


@triton.jit
def statistics_of_all(
    means, squares, mean, variance, rows, columns, run,
    RUNS: tl.constexpr, ADD_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Mean and biased variance from those of the runs."""
    column = tl.program_id(0) * ADD_COLUMNS + tl.arange(0, ADD_COLUMNS)[None, :]
    part = tl.arange(0, RUNS)[:, None]
    count = tl.minimum(tl.maximum(rows - part * run, 0), run).to(mean.dtype.element_ty)
    inside = (part * run < rows) & (column < columns)
    place = part.to(tl.int64) * columns + column
    run_mean = tl.load(means + place, mask=inside, other=0.0)
    run_square = tl.load(squares + place, mask=inside, other=0.0)
    total = tl.sum(count)
    all_mean = tl.sum(run_mean * count, 0)[None, :] / total
    deviation = run_mean - all_mean
    all_square = tl.sum(run_square + deviation * deviation * count, 0)[None, :]
    tl.store(mean + column, all_mean, mask=column < columns)
    tl.store(variance + column, all_square / total, mask=column < columns)


@triton.jit
def assignments(
    s, slope, offset, p, squares, rows, columns, s_stride, p_stride,
    WITH_SQUARES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``p = max(s * slope + offset, 0)`` and, if wanted, ``sum_T p^2``, for whole rows."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    s += row.to(tl.int64) * s_stride
    p += row.to(tl.int64) * p_stride
    square = tl.zeros([ROWS, COLUMNS], s.dtype.element_ty)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        inside = (row < rows) & (column < columns)
        value = tl.load(s + column, mask=inside, other=0.0)
        factor = tl.load(slope + column, mask=column < columns, other=0.0)
        value = value * factor + tl.load(offset + column, mask=column < columns, other=0.0)
        value = tl.where(value <= 0, 0.0, value)
        tl.store(p + column, value, mask=inside)
        square += tl.where(inside, value * value, 0.0)
    if WITH_SQUARES:
        tl.store(squares + row, tl.sum(square, 1)[:, None], mask=row < rows)


@triton.jit
def masked_gradient_of_runs(
    d_p, p, s, factor, sums, weighted_sums, rows, columns, stride, run,
    SUM_ROWS: tl.constexpr, SUM_COLUMNS: tl.constexpr,
):  # fmt: skip
    """``g = d_p - p * factor`` where p > 0, in place of d_p; ``sum g`` and ``sum s * g`` of a run."""
    column = tl.program_id(1) * SUM_COLUMNS + tl.arange(0, SUM_COLUMNS)[None, :]
    first = tl.program_id(0) * run + tl.arange(0, SUM_ROWS)[:, None]
    total = tl.zeros([SUM_ROWS, SUM_COLUMNS], d_p.dtype.element_ty)
    weighted = tl.zeros([SUM_ROWS, SUM_COLUMNS], d_p.dtype.element_ty)
    for start in range(0, run, SUM_ROWS):
        row = first + start
        inside = (row < rows) & (column < columns)
        place = row.to(tl.int64) * columns + column
        value = tl.load(p + place, mask=inside, other=0.0)
        grad = tl.load(d_p + place, mask=inside, other=0.0)
        grad -= value * tl.load(factor + row, mask=row < rows, other=0.0)
        grad = tl.where(value > 0, grad, grad * 0.0)
        tl.store(d_p + place, grad, mask=inside)
        score = tl.load(s + row.to(tl.int64) * stride + column, mask=inside, other=0.0)
        total += grad
        weighted += grad * score
    place = tl.program_id(0).to(tl.int64) * columns + column
    tl.store(sums + place, tl.sum(total, 0)[None, :], mask=column < columns)
    tl.store(weighted_sums + place, tl.sum(weighted, 0)[None, :], mask=column < columns)


@triton.jit
def score_gradients(
    g, s, slope, tilt, shift, loss, rows, columns, s_stride, loss_stride,
    THROUGH_STATISTICS: tl.constexpr, WITH_LOSS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``(g + s * tilt - shift) * slope + loss``, in place of g."""
    blocks = tl.cdiv(columns, COLUMNS)
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    of_column = column < columns
    inside = (row < rows) & of_column
    place = row.to(tl.int64) * columns + column
    grad = tl.load(g + place, mask=inside, other=0.0)
    if THROUGH_STATISTICS:
        score = tl.load(s + row.to(tl.int64) * s_stride + column, mask=inside, other=0.0)
        grad += score * tl.load(tilt + column, mask=of_column, other=0.0)
        grad -= tl.load(shift + column, mask=of_column, other=0.0)
    grad *= tl.load(slope + column, mask=of_column, other=0.0)
    if WITH_LOSS:
        grad += tl.load(loss + row.to(tl.int64) * loss_stride + column, mask=inside, other=0.0)
    tl.store(g + place, grad, mask=inside)


def mean_and_variance(s_MT: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`elementwise.mean_and_variance`."""
    rows, columns = s_MT.shape
    run, grid = _runs(s_MT)
    means, squares = s_MT.new_empty(2, grid[0], columns)
    mean_T, var_T = s_MT.new_empty(2, columns)
    with torch.cuda.device_of(s_MT):
        statistics_of_runs[grid](
            s_MT, means, squares, rows, columns, s_MT.stride(0), run,
            SUM_ROWS, SUM_COLUMNS, num_warps=SUM_WARPS,
        )  # fmt: skip
        statistics_of_all[(triton.cdiv(columns, ADD_COLUMNS),)](
            means, squares, mean_T, var_T, rows, columns, run,
            triton.next_power_of_2(grid[0]), ADD_COLUMNS, num_warps=WARPS,
        )  # fmt: skip
    return mean_T, var_T


def assign(s_MT: Tensor, slope_T: Tensor, offset_T: Tensor, out: Tensor | None = None) -> Tensor:
    """See :func:`elementwise.assign`."""
    return _assign(s_MT, slope_T, offset_T, out, None)


def assign_with_squares(
    s_MT: Tensor, slope_T: Tensor, offset_T: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See :func:`elementwise.assign_with_squares`."""
    squares_M = s_MT.new_empty(len(s_MT))
    return _assign(s_MT, slope_T, offset_T, out, squares_M), squares_M


def _assign(
    s_MT: Tensor, slope_T: Tensor, offset_T: Tensor, out: Tensor | None, squares_M: Tensor | None
) -> Tensor:
    rows, columns = s_MT.shape
    p_MT = torch.empty_like(s_MT, memory_format=torch.contiguous_format) if out is None else out
    block_rows, block_columns = _block(columns)
    with torch.cuda.device_of(s_MT):
        assignments[(triton.cdiv(rows, block_rows),)](
            s_MT, slope_T, offset_T, p_MT, p_MT if squares_M is None else squares_M,
            rows, columns, s_MT.stride(0), p_MT.stride(0),
            squares_M is not None, block_rows, block_columns, num_warps=WARPS,
        )  # fmt: skip
    return p_MT


def masked_gradient(
    d_p_MT: Tensor, p_MT: Tensor, s_MT: Tensor, factor_M: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`elementwise.masked_gradient`; g is in the memory of ``d_p_MT``."""
    rows, columns = d_p_MT.shape
    run, grid = _runs(d_p_MT)
    sums = d_p_MT.new_empty(2, grid[0], columns)
    with torch.cuda.device_of(d_p_MT):
        masked_gradient_of_runs[grid](
            d_p_MT, p_MT, s_MT, factor_M, *sums, rows, columns, s_MT.stride(0), run,
            SUM_ROWS, SUM_COLUMNS, num_warps=SUM_WARPS,
        )  # fmt: skip
    total_T, weighted_T = sums.sum(1)
    return d_p_MT, total_T, weighted_T


def score_gradient(
    g_MT: Tensor,
    s_MT: Tensor,
    slope_T: Tensor,
    tilt_T: Tensor | None,
    shift_T: Tensor | None,
    loss_d_s_MT: Tensor | None,
) -> Tensor:
    """See :func:`elementwise.score_gradient`; the result is in the memory of ``g_MT``."""
    rows, columns = g_MT.shape
    block_rows, block_columns = _block(columns)
    loss = s_MT if loss_d_s_MT is None else loss_d_s_MT
    grid = (triton.cdiv(rows, block_rows) * triton.cdiv(columns, block_columns),)
    with torch.cuda.device_of(g_MT):
        score_gradients[grid](
            g_MT, s_MT, slope_T, slope_T if tilt_T is None else tilt_T,
            slope_T if shift_T is None else shift_T, loss,
            rows, columns, s_MT.stride(0), loss.stride(0),
            tilt_T is not None and shift_T is not None, loss_d_s_MT is not None,
            block_rows, block_columns, num_warps=WARPS,
        )  # fmt: skip
    return g_MT


def _block(columns: int) -> tuple[int, int]:
    """Rows and columns of a block of at most :data:`BLOCK` numbers."""
    block_columns = min(MOST_COLUMNS, triton.next_power_of_2(columns))
    return min(16, BLOCK // block_columns), block_columns


def _runs(rows_MT: Tensor) -> tuple[int, tuple[int, int]]:
    """Rows of a run, a multiple of :data:`SUM_ROWS`; runs, and blocks of columns."""
    rows, columns = rows_MT.shape
    blocks = triton.cdiv(columns, SUM_COLUMNS)
    runs = min(MOST_RUNS, triton.cdiv(SUM_PROGRAMS, blocks), triton.cdiv(rows, 4 * SUM_ROWS))
    run = triton.cdiv(triton.cdiv(rows, runs), SUM_ROWS) * SUM_ROWS
    return run, (triton.cdiv(rows, run), blocks)
