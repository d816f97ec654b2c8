"""How the rows of a table of decisions between sub-classes spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmkdlayer.models.decisions import SubclassDecision

#: Entries of the table that are dense at a time.
BLOCK = 1 << 24


@dataclass(frozen=True)
class TableRows:
    """Statistics of the rows of a table S (K, K), K = C * M; arrays (K,) if not said otherwise."""

    own: np.ndarray  #: S[a, a], the share of its positions that a sub-class keeps
    own_class: np.ndarray  #: the share that its class keeps
    highest: np.ndarray  #: the largest share of the row
    #: exp of the row's entropy: over how many sub-classes it spreads, 1 to K.
    perplexity: np.ndarray
    rivals: np.ndarray  #: the other classes that get most, the first one most (K, R)
    rival_shares: np.ndarray  #: what they get (K, R)
    density: float  #: the share of the table's entries that are not 0, one number


@torch.no_grad()
def read_rows(decision: Any, rivals: int = 3) -> TableRows:
    """Statistics of a fitted :class:`SubclassDecision`'s table, some rows at a time."""
    assert isinstance(decision, SubclassDecision)
    table, classes = decision.decisions.cpu(), decision.num_classes
    count, size = decision.num_templates, decision.num_subclasses
    rivals = min(rivals, classes - 1)
    step = max(1, BLOCK // count)
    parts: list[list[np.ndarray]] = []
    filled = 0
    for start in range(0, count, step):
        index = torch.arange(start, min(count, start + step))
        rows = table.index_select(0, index)
        rows = rows.to_dense() if rows.layout != torch.strided else rows
        rows = rows.float()
        filled += int((rows > 0).sum())
        places = torch.arange(len(rows))
        own = rows[places, index]
        by_class = rows.unflatten(1, (classes, size)).sum(2)
        own_class = by_class[places, index // size].clone()
        by_class[places, index // size] = -1
        shares, names = by_class.topk(rivals, dim=1)
        perplexity = torch.special.entr(rows).sum(1).exp()
        found = (own, own_class, rows.amax(1), perplexity, names, shares)
        parts.append([value.numpy() for value in found])
    whole = [np.concatenate(part) for part in zip(*parts)]
    return TableRows(whole[0], whole[1], whole[2], whole[3], whole[4], whole[5], filled / count**2)
