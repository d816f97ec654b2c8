"""Targets of which the most probable templates alone are known."""

from __future__ import annotations

import torch
from torch import Tensor

from .row_targets import RowTargets


class TopTargets(RowTargets):
    """For each position k of K templates with their probabilities; the rest is spread over the others.

    With ``r_i = 1 - sum_j p_ij`` and ``b_i = r_i / (K - k)`` the target is ``p_ij`` at template
    ``index_ij``, and ``b_i`` at each of the other ``K - k``. Where the probabilities sum to more than 1,
    as rounded ones may, or all K are known, they are divided by their sum.

    Args:
        index: Which templates are known, each once in a row, shape (M, k), int64.
        probabilities: Shape (M, k), in float32 or better.
        templates: K.
    """

    def __init__(self, index: Tensor, probabilities: Tensor, templates: int) -> None:
        others = templates - index.size(1)
        total = probabilities.sum(1, keepdim=True)
        whole = total if others == 0 else total.clamp_min(1)
        self.index, self.probabilities = index, probabilities / whole
        rest = (1 - total).clamp_min(0) if others else torch.zeros_like(total)
        self.others, self.each = others, rest / max(1, others)

    def _divergence(self, rows: slice, log_q: Tensor) -> Tensor:
        known, each = self.probabilities[rows], self.each[rows]
        powers = torch.special.xlogy(known, known).sum(1, keepdim=True)
        powers = powers + self.others * torch.special.xlogy(each, each)
        cross = ((known - each) * log_q.gather(1, self.index[rows])).sum(1, keepdim=True)
        return (powers - cross - each * log_q.sum(1, keepdim=True)).sum()

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        each = self.each[rows].to(grad.dtype)
        grad.sub_(each)
        grad.scatter_add_(1, self.index[rows], each - self.probabilities[rows].to(grad.dtype))
