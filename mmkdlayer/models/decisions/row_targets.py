"""What a decision says about the positions of one batch, without a tensor of positions by templates."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from mmkdlayer.models.ops import maps_of, rows_of


class RowTargets:
    """Distributions p over K templates for M positions, of which a run of rows is asked at a time.

    It is made in the forward pass of a loss and kept for the backward pass. A subclass has
    :meth:`subtract_from`, and ``_divergence`` where there is a faster way.
    """

    #: Whether making p costs as much as a product of the layer, so that a loss makes it once.
    is_costly = False
    #: Of the products that make p, as :func:`mmkdlayer.precision.float32_products` takes it.
    precision = 'float32'
    #: What :meth:`matrix` gives: 'table', 'logits', or None where p is made of more than one matrix.
    matrix_kind: str | None = None

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """Subtract p from a contiguous tensor (rows, K), in place."""
        raise NotImplementedError

    def divergence(
        self, rows: slice, logs: Tensor, offset: Tensor | None = None, grad: Tensor | None = None
    ) -> Tensor:
        """``sum_i sum_k p_k (log p_k - log q_k)`` over some rows, a scalar.

        ``log q = logs - offset`` as :func:`mmkdlayer.models.ops.softmax_and_logs` gives them; the logs
        may be the student's scores, and must not be overwritten. From ``grad``, which holds q, p is
        subtracted, if there is one. What nearly cancels is subtracted for each entry or row, and summed
        afterwards: the sums of all rows hold no more than three digits of a small divergence.
        """
        if grad is not None:
            self.subtract_from(rows, grad)
        return self._divergence(rows, logs if offset is None else logs - offset)

    def _divergence(self, rows: slice, log_q: Tensor) -> Tensor:
        target = self._dense(rows, torch.zeros_like(log_q))
        return torch.special.xlogy(target, target).sub_(target * log_q).sum()  # 0 log 0 is 0

    def _dense(self, rows: slice, zeros: Tensor) -> Tensor:
        self.subtract_from(rows, zeros)
        return zeros.neg_()

    @torch.no_grad()
    def dense(self, like: Tensor, templates: int) -> Tensor:
        """Probabilities (N, K, H, W), in float32 or better, of all positions of a map (N, C, H, W)."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        zeros = like.new_zeros(like.numel() // like.size(1), templates, dtype=dtype)
        return maps_of(self._dense(slice(0, len(zeros)), zeros), like)

    def matrix(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        """The matrix that p is read from, for kernels that form p as they go.

        Returns:
            A table of probabilities, and which of its rows each position has, shape (rows,), int64; or
            logits, shape (rows, K), and None. Rows are contiguous.
        """
        raise NotImplementedError


class DenseTargets(RowTargets):
    """For any decision: the targets of the images that the rows lie in.

    ``target`` gives probabilities (n, K, H, W) for a run of images, of H*W = ``area`` positions each.
    """

    def __init__(self, target: Callable[[slice], Tensor], area: int) -> None:
        self.target = target
        self.area = area

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        first = rows.start // self.area
        found = rows_of(self.target(slice(first, -(-rows.stop // self.area))))
        start = rows.start - first * self.area
        grad.sub_(found[start : start + rows.stop - rows.start])
