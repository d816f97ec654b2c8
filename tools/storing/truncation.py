"""The most probable templates of a position, in place of all: what is kept, and what that changes.

Of p (K,) the k largest are kept as float16, rounded down, so that they sum to 1 at most. What is read
spreads the rest r evenly over the others::

    p'_j = kept_j                         for the k rows that are kept
    p'_j = r / (K - k),  r = 1 - sum kept    for the others

The total variation between p and p' is r at most. So, for scores whose largest and smallest differ by s,
the KL divergence of a position changes by at most ``r s + r log(K - 1) + h(r)``, where h is the binary
entropy. The first term is for the cross-entropy, a difference of expectations of the scores; the others
are for the entropy (Audenaert, "A sharp continuity estimate for the von Neumann entropy", 2007), which
no gradient depends on. The gradient to the scores of a position, softmax - p, changes by 2 r in sum. The
scores of a KD layer are cosines times its template scale s1, so s is 2 s1 at most.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: What the probabilities that are not kept may sum to, on average over a sample.
REST = 0.01


def keep_top(probabilities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of probabilities (M, K), float32 or float64, in falling order.

    Returns:
        Columns (M, k), int64; their values (M, k), float16, rounded down.
    """
    values, columns = probabilities.topk(k, dim=1)
    return columns, round_down(values)


def round_down(values: Tensor) -> Tensor:
    """The largest float16 that is not above, of values that are not negative."""
    rounded = values.half()
    above = rounded.to(values.dtype) > values
    return (rounded.view(torch.int16) - above.to(torch.int16)).view(torch.float16)


def sum_falling(probabilities: Tensor) -> Tensor:
    """The largest of each row as they are kept, summed over rows, then the second largest, and so on.

    ``probabilities`` is (M, K); returns (K,), float64, on the CPU.
    """
    falling = probabilities.sort(dim=1, descending=True).values
    return round_down(falling).double().sum(0).cpu()


def choose_k(sums: Tensor, count: int, rest: float = REST) -> tuple[int, float]:
    """The smallest k so that what is not kept is at most ``rest`` on average over ``count`` positions.

    ``sums`` (K,) are those of :func:`sum_falling`.

    Returns:
        k, at least 1 and below K (where K is above 1); and what is not kept on average.
    """
    left = 1 - sums.cumsum(0) / count
    enough = (left <= rest).nonzero()[:, 0].tolist()
    k = max(1, min(enough[0] + 1 if enough else len(left), len(left) - 1))
    return k, max(0.0, float(left[k - 1]))
