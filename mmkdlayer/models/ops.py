"""Operations on tensors that the KD layer and its loss share.

Maps as rows, one for each position; matrix products by the faster of torch's two libraries; precision,
and checks that fit into a training step.

On a CPU, torch gives matrix products to MKL or OpenBLAS and convolutions to oneDNN. A 1x1 convolution
over positions in channels-last order is the same product on the same memory. In float32 it is twice as
fast on AMD's processors with AVX-512, which MKL leaves alone there; without AVX-512 its gradients take
twice as long.
"""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from typing import Any, Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError

#: Torch leaves oneDNN out for smaller batches.
MKLDNN_MIN_BATCH = 16
#: Logarithm of the smallest share of a row's largest probability that a CPU calculates with.
SMALLEST_LOG = -60.0


def rows_of(maps: Tensor) -> Tensor:
    """(N, K, H, W) as (N*H*W, K): a view where the map is in channels-last order."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.size(1))


def maps_of(rows: Tensor, like: Tensor) -> Tensor:
    """(N*H*W, K) as (N, K, H, W) in channels-last order, for the N, H, W of another map."""
    images, _, height, width = like.shape
    return rows.view(images, height, width, rows.size(1)).permute(0, 3, 1, 2)


def product(
    rows: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """``rows @ weight.T + bias``, (M, K), of rows (M, C), weight (K, C) and bias (K,).

    It is written to ``out``, without a bias; None for a new tensor, which is contiguous.
    """
    if out is not None:
        return torch.mm(rows, weight.t(), out=out)
    if _by_convolution(rows):
        return rows_of(F.conv2d(_map(rows), weight[:, :, None, None], bias))
    return F.linear(rows, weight, bias)


def add_product(total: Tensor | None, rows: Tensor, weight: Tensor) -> Tensor:
    """``total + rows @ weight.T``, in place where there is a total."""
    if total is None:
        return product(rows, weight)
    if _by_convolution(rows):
        return total.add_(product(rows, weight))
    return total.addmm_(rows, weight.t())


def product_gradients(upstream: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of :func:`product` for rows (M, C) and weight (K, C), from its own, (M, K).

    ``upstream @ weight, upstream.T @ rows``.
    """
    if _by_convolution(rows):
        d_map, d_weight, _ = torch.ops.aten.convolution_backward(
            _map(upstream), _map(rows), weight[:, :, None, None], None,
            [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False],
        )  # fmt: skip
        return rows_of(d_map), d_weight.flatten(1)
    return upstream @ weight, upstream.t() @ rows


def add_product_gradients(
    d_rows: Tensor | None, d_weight: Tensor, upstream: Tensor, rows: Tensor, weight: Tensor
) -> Tensor:
    """As :func:`product_gradients`, added to ``d_rows`` (M, C) and written to ``d_weight`` (K, C).

    Returns:
        The sum, shape (M, C): ``d_rows`` itself, a new tensor where it is None.
    """
    if _by_convolution(rows):
        more, found = product_gradients(upstream, rows, weight)
        d_weight.copy_(found)
        return more if d_rows is None else d_rows.add_(more)
    torch.mm(upstream.t(), rows, out=d_weight)
    return upstream @ weight if d_rows is None else d_rows.addmm_(upstream, weight)


def softmax(logits: Tensor, out: Tensor | None = None) -> Tensor:
    """Probabilities of logits (M, K); those that :data:`SMALLEST_LOG` stands for are 0 on a CPU."""
    if logits.device.type != 'cpu':
        return torch.softmax(logits, 1, out=out)
    _, bounded = _without_smallest(logits)
    shares = torch.softmax(bounded, 1, out=out)
    return torch.threshold_(shares, math.exp(SMALLEST_LOG), 0.0)


def softmax_and_logs(
    logits: Tensor, out: Tensor | None = None, bounded: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Probabilities q of logits (M, K), and their logarithms in two parts.

    Args:
        logits: Shape (M, K), in float32 or better; they are not changed, unless they are ``out``.
        out: Memory for q, (M, K); the logits themselves, where nobody needs them any more.
        bounded: Whether the logarithms may be those of :data:`SMALLEST_LOG` at least on a CPU, as q is:
            for products with q, which the logarithms themselves may be too large for.

    Returns:
        q; logs, (M, K), which may be the logits; an offset (M, 1) with ``log q = logs - offset``, None
        for 0. In float32 an error of the offset is up to 4e-6 where a row's logits are up to 30.
    """
    if logits.device.type != 'cpu':
        logs = logits.log_softmax(1)
        return torch.exp(logs, out=out), logs, None
    logs, above = _without_smallest(logits)
    q = torch.softmax(above, 1, out=None if out is logits else out)
    if logs is logits:  # any column tells the offset
        return q, logs, logs[:, :1] - q[:, :1].log()
    return q, above if bounded else logs, q.amax(1, keepdim=True).log_().neg_()


def _without_smallest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (M, K) less the largest of each row, and the same without what is too small.

    Sharp distributions have probabilities below the smallest normal number, with which processors
    calculate up to a hundred times as slowly. Of the second tensor's there are none. Both are the logits
    themselves where these are near zero, as a KD layer's scores mostly are.
    """
    if not len(logits):
        return logits, logits
    least, largest = torch.aminmax(logits)
    if 2 * max(float(largest), -float(least)) <= -SMALLEST_LOG:
        return logits, logits
    logits = logits - logits.amax(1, keepdim=True)
    return logits, logits.clamp_min(SMALLEST_LOG)


def _by_convolution(rows: Tensor) -> bool:
    return (
        rows.device.type == 'cpu'
        and rows.dtype == torch.float32
        and rows.size(0) % MKLDNN_MIN_BATCH == 0
        and rows.size(0) > MKLDNN_MIN_BATCH
        and _convolutions_are_faster()
    )


@cache
def _convolutions_are_faster(cpuinfo: Path = Path('/proc/cpuinfo')) -> bool:
    """Whether MKL leaves the processor's AVX-512 to oneDNN."""
    try:
        known = cpuinfo.read_text('utf-8', errors='replace')
    except OSError:  # no Linux, or not to be read
        return False
    return torch.backends.mkldnn.is_available() and 'AuthenticAMD' in known and 'avx512f' in known


def _map(rows: Tensor) -> Tensor:
    """Rows (M, C) as a batch (16, C, M / 16, 1); a view where they are contiguous."""
    return rows.reshape(MKLDNN_MIN_BATCH, -1, 1, rows.size(1)).permute(0, 3, 1, 2)


def check_sizes(owner: str, least: int = 1, **sizes: Any) -> None:
    """Raise a ConfigError where an argument is no integer, or less than the least one."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < least:
            expected = 'a positive integer' if least == 1 else f'an integer of at least {least}'
            raise ConfigError(f'{owner}: {name} must be {expected}, but got {value!r}.')


def check_map(owner: str, x: Tensor, channels: int) -> None:
    """Raise a ConfigError where a layer is given anything but a map (N, C, H, W)."""
    if x.dim() != 4 or x.size(1) != channels:
        raise ConfigError(
            f'{owner}: expected a feature map (N, C={channels}, H, W), but got {tuple(x.shape)}. Set '
            'in_channels to the channels of the module that the layer is placed after.'
        )


def check_implementation(owner: str, implementation: str) -> None:
    """Raise a ConfigError where an argument ``implementation`` has an unknown value."""
    if implementation not in ('memory_efficient', 'triton', 'reference'):
        raise ConfigError(
            f"{owner}: implementation must be 'memory_efficient', 'triton' or 'reference', but got "
            f'{implementation!r}.'
        )


def check_precision(owner: str, precision: str) -> str:
    """The precision of products, or a ConfigError where it is not known."""
    if precision not in ('float32', 'tf32'):
        raise ConfigError(f"{owner}: precision must be 'float32' or 'tf32', but got {precision!r}.")
    return precision


def require_triton(owner: str, device_type: str) -> None:
    """Raise a ConfigError where Triton's kernels can't work on tensors of a kind of device.

    They can on CUDA devices, and on any where Triton's interpreter was asked for.
    """
    way_out = "Or take implementation='memory_efficient', which gives the same numbers."
    try:
        from triton import __version__ as found
    except ImportError:
        found = ''
    if int(found.partition('.')[0] or 0) < 3:
        raise ConfigError(
            f"{owner}: implementation='triton' needs Triton 3 or later, but "
            f'{f"{found} is" if found else "none is"} installed. On Linux it comes with the CUDA builds '
            f'of torch 2.4 or later; else: pip install "mmkdlayer[triton]". {way_out}'
        )
    if device_type != 'cuda' and os.environ.get('TRITON_INTERPRET') != '1':
        raise ConfigError(
            f"{owner}: implementation='triton' trains on CUDA devices, but the device is "
            f'{device_type!r}. {way_out}'
        )


def refuse_second_derivative(name: str) -> None:
    """Raise a RuntimeError in a backward pass that is recorded: torch would silently leave terms out."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f'{name} has no second derivative: do not differentiate its gradient (create_graph=True).'
        )


def class_indices(owner: str, labels: Tensor, classes: int) -> Tensor:
    """Integer labels as int64, or a DataError where one is no class; see :func:`require`."""
    label = labels.long()  # before comparing: smaller types can't hold a large C
    require(
        (label.clamp(0, classes - 1) == label).all(),
        f'{owner}: labels must be 0 to {classes - 1} (num_classes={classes})',
        lambda: str(sorted(set(label.tolist()) - set(range(classes)))),
    )
    return label


def require(condition: Tensor, expected: str, found: Callable[[], str]) -> None:
    """Raise a DataError where a condition on data, a bool tensor with one element, does not hold.

    On CUDA the check is asynchronous (the device stops with an assertion later, which says what was
    expected), because a training step must not wait for the device; other accelerators have no such
    check. ``expected`` is a sentence without its full stop; ``found`` says what was found, when it
    is needed.
    """
    if condition.device.type == 'cpu':
        if not bool(condition):
            raise DataError(f'{expected}, but got {found()}.')
    elif condition.device.type == 'cuda':
        torch._assert_async(condition, f'{expected}.')
