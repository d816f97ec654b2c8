"""Targets that are rows of a table of decisions, dense or sparse, or mixtures of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .row_targets import RowTargets

#: Rows are looked up entry by entry where the longest has at most this share of the templates.
SPARSE_SHARE = 1 / 8
#: Numbers in a table that was stored sparse, up to which it is made dense where rows are long.
LARGEST_DENSE = 1 << 28


class TableTargets(RowTargets):
    """Rows of a table, one for each position, or a mixture of several.

    Args:
        rows: The table.
        entropies: ``sum_k p_k log p_k`` of each row of it, shape (K,).
        index: Which row each position has, shape (M,), int64; for a mixture (parts, M).
        shares: Share of each part of a mixture, shape (parts, M); None for one row alone.
    """

    def __init__(
        self,
        rows: DenseRows | SparseRows,
        entropies: Tensor,
        index: Tensor,
        shares: Tensor | None = None,
    ) -> None:
        self.table, self.entropies, self.index, self.shares = rows, entropies, index, shares

    def _divergence(self, rows: slice, log_q: Tensor) -> Tensor:
        if self.shares is not None:
            return super()._divergence(rows, log_q)
        index = self.index[rows]
        return (self.entropies[index] - self.table.dot(index, log_q)).sum()

    def subtract_from(self, rows: slice, grad: Tensor) -> None:
        """See :class:`RowTargets`."""
        if self.shares is None:
            self.table.subtract_from(grad, self.index[rows])
            return
        for index, share in zip(self.index[:, rows], self.shares[:, rows]):
            self.table.subtract_from(grad, index, share)

    @property
    def matrix_kind(self) -> str | None:  # type: ignore[override]
        """See :class:`RowTargets`: 'table' where p is one row of a dense one."""
        return 'table' if self.shares is None and isinstance(self.table, DenseRows) else None

    def matrix(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        """See :class:`RowTargets`."""
        assert isinstance(self.table, DenseRows)
        return self.table.table, self.index[rows]


def prepare_rows(table: Tensor) -> dict[str, Any]:
    """A table (K, K), dense or torch-sparse, for look-ups in the training step.

    ``rows``, :class:`DenseRows` or :class:`SparseRows`, and ``entropies``, ``sum_k p_k log p_k`` of
    each row, shape (K,).
    """
    most = table.size(1) * SPARSE_SHARE
    # In parts: the sum over all of a table would make 8 bytes of each number.
    parts = () if table.is_sparse else table.split(1024)
    if parts and max(int((part != 0).sum(1).max()) for part in parts) > most:
        entropies = torch.cat([torch.special.xlogy(part, part).sum(1) for part in parts])
        return dict(rows=DenseRows(table.contiguous()), entropies=entropies)
    rows = SparseRows.of(table)
    powers = torch.special.xlogy(rows.values, rows.values)
    entropies = powers.new_zeros(table.size(0)).index_add_(0, rows.owners(), powers)
    if rows.longest > most and table.numel() <= LARGEST_DENSE:
        return dict(rows=DenseRows(table.to_dense()), entropies=entropies)
    return dict(rows=rows, entropies=entropies)


class DenseRows(NamedTuple):
    """A table (K, K)."""

    table: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> DenseRows:
        """The same on a device, with values of a dtype."""
        return DenseRows(self.table.to(device, dtype))

    def dot(self, index: Tensor, scores: Tensor) -> Tensor:
        """``<row_index(i), scores_i>``, (M,), for an index (M,) and scores (M, K)."""
        return self.table.index_select(0, index).mul_(scores).sum(1)

    def subtract_from(self, total: Tensor, index: Tensor, share: Tensor | None = None) -> None:
        """Subtract ``share_i * row_index(i)`` from row i of a tensor (M, K), in place."""
        rows = self.table.index_select(0, index)
        if share is None:
            total.sub_(rows)
        else:
            total.addcmul_(rows, share[:, None], value=-1)

    def mix(self, weights: Tensor) -> Tensor:
        """``weights @ table``, for weights (M, K)."""
        return weights @ self.table


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A table whose rows are mostly zero, row after row (as in CSR).

    A row is looked up as if it were as long as the longest, so the sizes do not depend on the data,
    and nothing waits for the device.
    """

    starts: Tensor  #: where each row begins, and the end of the last, shape (K + 1,), int64
    columns: Tensor  #: shape (entries,), int64
    values: Tensor  #: shape (entries,)
    longest: int  #: entries of the longest row

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
        # Without its size, this would wait for the device.
        return torch.repeat_interleave(self.starts.diff(), output_size=len(self.columns))

    def to(self, device: torch.device, dtype: torch.dtype) -> SparseRows:
        """The same on a device, with values of a dtype."""
        return SparseRows(
            self.starts.to(device),
            self.columns.to(device),
            self.values.to(device, dtype),
            self.longest,
        )

    def dot(self, index: Tensor, scores: Tensor) -> Tensor:
        """As :meth:`DenseRows.dot`."""
        columns, values = self._entries(index)
        return values.mul_(scores.gather(1, columns)).sum(1)

    def subtract_from(self, total: Tensor, index: Tensor, share: Tensor | None = None) -> None:
        """As :meth:`DenseRows.subtract_from`."""
        columns, values = self._entries(index)
        if share is not None:
            values.mul_(share[:, None])
        total.scatter_add_(1, columns, values.neg_())

    def mix(self, weights: Tensor) -> Tensor:
        """As :meth:`DenseRows.mix`."""
        return torch.sparse.mm(self.transposed, weights.t()).t()

    @cached_property
    def transposed(self) -> Tensor:
        """The table's transpose, torch-sparse.

        CUDA coalesces what is not in each product, and waits for the number of entries.
        """
        entries = torch.stack([self.columns, self.owners()])
        size = (len(self.starts) - 1,) * 2
        made = torch.sparse_coo_tensor(entries, self.values, size, check_invariants=False)
        return made.coalesce()

    def _entries(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Columns and values, both (M, longest); 0 at column 0 beyond a row's end."""
        places = self.starts[index, None] + torch.arange(self.longest, device=index.device)
        beyond = places >= self.starts[index + 1, None]
        places = places.masked_fill_(beyond, 0)
        return (
            self.columns[places].masked_fill_(beyond, 0),
            self.values[places].masked_fill_(beyond, 0),
        )
