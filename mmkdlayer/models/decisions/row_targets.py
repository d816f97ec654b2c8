"""What a decision says about the positions of one batch, without a tensor of positions by templates."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from mmkdlayer.models.products import product

from .table_rows import TableRows


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


class TableTargets(RowTargets):
    """Rows of a table, one for each position, or a mixture of several.

    Args:
        rows: The table.
        entropies: ``sum_k p_k log p_k`` of each row of it, shape (K,).
        index: Which row each position has, shape (M,), int64; for a mixture (parts, M).
        shares: Share of each part of a mixture, shape (parts, M); None for one row alone.
    """

    def __init__(
        self, rows: TableRows, entropies: Tensor, index: Tensor, shares: Tensor | None = None
    ) -> None:
        self.table, self.entropies, self.index, self.shares = rows, entropies, index, shares

    def divergence(self, rows: slice, scores: Tensor) -> Tensor:
        """See :class:`RowTargets`; 0 log 0 is 0."""
        if self.shares is None:
            index = self.index[rows]
            return self.entropies[index].sum() - self.table.dot(index, scores)
        target = torch.zeros_like(scores)
        self._add_to(target, rows, 1)
        return torch.special.xlogy(target, target).sub_(target * scores).sum()

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        self._add_to(grad, rows, -1)

    def _add_to(self, total: Tensor, rows: slice, sign: int) -> None:
        """Add p, or subtract it, in place from a tensor (rows, K)."""
        if self.shares is None:
            self.table.add_to(total, self.index[rows], None, sign)
            return
        for index, share in zip(self.index[:, rows], self.shares[:, rows]):
            self.table.add_to(total, index, share, sign)
