"""What a decision says about the positions of one batch, without a tensor of positions by templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import torch
from torch import Tensor

from mmkdlayer.models.products import product

from .table_rows import SparseRows


class RowTargets:
    """Distributions p over K templates for M positions, of which a run of rows is asked at a time.

    It is made in the forward pass of a loss and kept for the backward pass.
    """

    def divergence(self, rows: slice, scores: Tensor) -> Tensor:
        """``sum_i sum_k p_k (log p_k - score_k)`` over some rows.

        Args:
            rows: Which.
            scores: Their scores, shape (rows, K), contiguous.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """Subtract p from a contiguous tensor (rows, K), in place."""
        raise NotImplementedError


class DenseTargets(RowTargets):
    """For any decision: the targets of the images that the rows lie in.

    Args:
        target: Gives probabilities (n, K, H, W) for a run of images.
        area: H*W, positions of one image.
    """

    def __init__(self, target: Callable[[slice], Tensor], area: int) -> None:
        self.target = target
        self.area = area

    def _rows(self, rows: slice) -> Tensor:
        first = rows.start // self.area
        target = self.target(slice(first, -(-rows.stop // self.area)))
        start = rows.start - first * self.area
        flat = target.permute(0, 2, 3, 1).reshape(-1, target.size(1))
        return flat[start : start + rows.stop - rows.start]

    def divergence(self, rows: slice, scores: Tensor) -> Tensor:
        """See :class:`RowTargets`; 0 log 0 is 0."""
        target = self._rows(rows)
        return torch.special.xlogy(target, target).sub_(target * scores).sum()

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        grad.sub_(self._rows(rows))


class SoftmaxTargets(RowTargets):
    """``p = softmax(rows @ weight.T + bias)``.

    Args:
        rows: Shape (M, D).
        weight: Shape (K, D).
        bias: Shape (K,).
    """

    def __init__(self, rows: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.rows, self.weight, self.bias = rows, weight, bias

    def _logits(self, rows: slice) -> Tensor:
        return product(self.rows[rows], self.weight, self.bias)

    def divergence(self, rows: slice, scores: Tensor) -> Tensor:
        """See :class:`RowTargets`."""
        # The logits themselves may be of thousands, their sum over all rows beyond float32.
        log_target = self._logits(rows).log_softmax(1)
        target = log_target.exp()
        return torch.dot(target.flatten(), log_target.sub_(scores).flatten())

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        logits = self._logits(rows)
        grad.sub_(torch.softmax(logits, 1))


class LookedUpTargets(RowTargets):
    """Rows of a dense table.

    Args:
        table: Shape (K, K).
        entropies: ``sum_k p_k log p_k`` of each row, shape (K,).
        index: Which row each position has, shape (M,), int64.
    """

    def __init__(self, table: Tensor, entropies: Tensor, index: Tensor) -> None:
        self.table, self.entropies, self.index = table, entropies, index

    def divergence(self, rows: slice, scores: Tensor) -> Tensor:
        """See :class:`RowTargets`."""
        index = self.index[rows]
        target = self.table.index_select(0, index)
        return self.entropies[index].sum() - torch.dot(target.flatten(), scores.flatten())

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        grad.sub_(self.table.index_select(0, self.index[rows]))

    def add_to(self, rows: slice, total: Tensor, share: Tensor) -> None:
        """Add p times the share of each row (rows,) to a tensor (rows, K), in place."""
        total.addcmul_(self.table.index_select(0, self.index[rows]), share[:, None])


class SparseTargets(RowTargets):
    """Rows of a sparse table; each is looked up as if it were as long as the longest.

    So the sizes do not depend on the data, and nothing waits for the device.

    Args:
        table: The rows.
        entropies: ``sum_k p_k log p_k`` of each row, shape (K,).
        index: Which row each position has, shape (M,), int64.
    """

    def __init__(self, table: SparseRows, entropies: Tensor, index: Tensor) -> None:
        self.table, self.entropies, self.index = table, entropies, index

    def _entries(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Columns and values, both (rows, longest); 0 at column 0 beyond a row's end."""
        starts, columns, values, longest = self.table
        places = starts[index, None] + torch.arange(longest, device=index.device)
        beyond = places >= starts[index + 1, None]
        places = places.masked_fill_(beyond, 0)
        return (
            columns[places].masked_fill_(beyond, 0),
            values[places].masked_fill_(beyond, 0),
        )

    def divergence(self, rows: slice, scores: Tensor) -> Tensor:
        """See :class:`RowTargets`."""
        index = self.index[rows]
        columns, values = self._entries(index)
        found = scores.gather(1, columns)
        return self.entropies[index].sum() - torch.dot(values.flatten(), found.flatten())

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        columns, values = self._entries(self.index[rows])
        grad.scatter_add_(1, columns, values.neg_())

    def add_to(self, rows: slice, total: Tensor, share: Tensor) -> None:
        """Add p times the share of each row (rows,) to a tensor (rows, K), in place."""
        columns, values = self._entries(self.index[rows])
        total.scatter_add_(1, columns, values.mul_(share[:, None]))


class MixedTargets(RowTargets):
    """Sums of rows that were looked up, each with its share; dense for the rows asked for.

    Args:
        parts: The rows of each part of the mixture.
        shares: Their shares, shape (parts, M).
    """

    def __init__(self, parts: Sequence[LookedUpTargets | SparseTargets], shares: Tensor) -> None:
        self.parts, self.shares = parts, shares

    def _rows(self, rows: slice, like: Tensor) -> Tensor:
        target = torch.zeros_like(like)
        for part, share in zip(self.parts, self.shares[:, rows]):
            part.add_to(rows, target, share)
        return target

    def divergence(self, rows: slice, scores: Tensor) -> Tensor:
        """See :class:`RowTargets`; 0 log 0 is 0."""
        target = self._rows(rows, scores)
        return torch.special.xlogy(target, target).sub_(target * scores).sum()

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        for part, share in zip(self.parts, self.shares[:, rows]):
            part.add_to(rows, grad, -share)
