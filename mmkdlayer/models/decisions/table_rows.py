"""A table of decisions in the form in which its rows are looked up."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Rows are looked up entry by entry where the longest has at most this share of the templates.
SPARSE_SHARE = 1 / 8
#: Numbers in a table that was stored sparse, up to which it is made dense where rows are long.
LARGEST_DENSE = 1 << 28


class SparseRows(NamedTuple):
    """A table whose rows are mostly zero, row after row (as in CSR).

    Attributes:
        starts: Where each row begins, and the end of the last, shape (K + 1,), int64.
        columns: Shape (entries,), int64.
        values: Shape (entries,).
        longest: Entries of the longest row.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    longest: int

    @classmethod
    def of(cls, table: Tensor) -> SparseRows:
        """Those of a matrix, dense or torch-sparse."""
        table = (table if table.is_sparse else table.to_sparse_coo()).coalesce()
        row, columns = table.indices()
        counts = torch.bincount(row, minlength=table.size(0))
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(starts, columns.contiguous(), table.values(), int(counts.max()))

    def owners(self) -> Tensor:
        """The row of each entry, shape (entries,)."""
        return torch.repeat_interleave(self.starts.diff())

    def to(self, device: torch.device, dtype: torch.dtype) -> SparseRows:
        """The same on a device, with values of a dtype."""
        return SparseRows(
            self.starts.to(device),
            self.columns.to(device),
            self.values.to(device, dtype),
            self.longest,
        )


def look_up_form(table: Tensor) -> dict[str, Any]:
    """A table (K, K), dense or torch-sparse, for look-ups in the training step.

    Returns:
        ``table``, a dense tensor or :class:`SparseRows`, and ``entropies``, ``sum_k p_k log p_k`` of
        each row, shape (K,).
    """
    most = table.size(1) * SPARSE_SHARE
    if not table.is_sparse and int((table != 0).sum(1).max()) > most:
        parts = [torch.special.xlogy(part, part).sum(1) for part in table.split(1024)]
        return dict(table=table, entropies=torch.cat(parts))
    rows = SparseRows.of(table)
    powers = torch.special.xlogy(rows.values, rows.values)
    entropies = powers.new_zeros(table.size(0)).index_add_(0, rows.owners(), powers)
    if rows.longest > most and table.numel() <= LARGEST_DENSE:
        return dict(table=table.to_dense(), entropies=entropies)
    return dict(table=rows, entropies=entropies)
