"""Operations that raise on CUDA under ``torch.use_deterministic_algorithms(True)``.

mmengine turns that on for ``randomness=dict(deterministic=True)``. The source is torch's documentation
of that function, "will throw a RuntimeError": all that it lists in torch 2.1 to 2.14. For each class or
function there, the operations of aten that it calls are listed here.
"""

from __future__ import annotations

import re
from typing import Any, Callable

import torch


def always(*args: Any, **kwargs: Any) -> bool:
    return True


def of_fractions(values: torch.Tensor, *args: Any, dtype: Any = None, **kwargs: Any) -> bool:
    wanted = values.dtype if dtype is None else dtype
    return wanted.is_floating_point or wanted.is_complex


def weighted(values: torch.Tensor, weights: Any = None, *args: Any, **kwargs: Any) -> bool:
    return weights is not None


def by_product(*args: Any, reduce: str = '', **kwargs: Any) -> bool:
    return 'prod' in (reduce, *(value for value in args if isinstance(value, str)))


def quantized(values: torch.Tensor, *args: Any, **kwargs: Any) -> bool:
    return values.is_quantized


_BACKWARD_OF = {
    'AvgPool3d': ['avg_pool3d_backward'],
    'AdaptiveAvgPool2d': ['_adaptive_avg_pool2d_backward'],
    'AdaptiveAvgPool3d': ['_adaptive_avg_pool3d_backward'],
    'MaxPool3d': ['max_pool3d_with_indices_backward'],
    'AdaptiveMaxPool2d': ['adaptive_max_pool2d_backward'],
    'FractionalMaxPool2d': ['fractional_max_pool2d_backward'],
    'FractionalMaxPool3d': ['fractional_max_pool3d_backward'],
    'interpolate': [
        'upsample_linear1d_backward',
        'upsample_bilinear2d_backward',
        '_upsample_bilinear2d_aa_backward',
        'upsample_bicubic2d_backward',
        '_upsample_bicubic2d_aa_backward',
        'upsample_trilinear3d_backward',
    ],
    'ReflectionPad1d': ['reflection_pad1d_backward'],
    'ReflectionPad2d': ['reflection_pad2d_backward'],
    'ReflectionPad3d': ['reflection_pad3d_backward'],
    'ReplicationPad1d': ['replication_pad1d_backward'],
    'ReplicationPad2d': ['replication_pad2d_backward'],
    'ReplicationPad3d': ['replication_pad3d_backward'],
    'CTCLoss': ['_ctc_loss_backward', '_cudnn_ctc_loss'],
    'EmbeddingBag': ['_embedding_bag_dense_backward'],
    'grid_sample': ['grid_sampler_2d_backward', 'grid_sampler_3d_backward'],
}
_OTHERS: dict[str, dict[str, Callable[..., bool]]] = {
    'MaxUnpool1d': {'max_unpool2d': always},
    'MaxUnpool2d': {'max_unpool2d': always},
    'MaxUnpool3d': {'max_unpool3d': always},
    'NLLLoss': {'nll_loss2d_forward': always, 'nll_loss2d_backward': always},  # of maps alone
    'put_': {'put_': always, 'put': always},
    'histc': {'histc': always},
    'bincount': {'bincount': weighted},
    'kthvalue': {'kthvalue': always},
    'median': {'median.dim': always, 'nanmedian.dim': always},
    'cumsum': {'cumsum': of_fractions, 'cumsum_': of_fractions},
    'scatter_reduce': {'scatter_reduce': by_product, 'scatter_reduce_': by_product},
    'resize_': {'resize_': quantized},
}
#: By torch's name: the operations of aten, and whether a call of them raises.
BY_NAME = {name: dict.fromkeys(found, always) for name, found in _BACKWARD_OF.items()} | _OTHERS
_BY_OPERATION = {operation: case for cases in BY_NAME.values() for operation, case in cases.items()}


def is_refused(func: Any, args: tuple, kwargs: dict) -> bool:
    """Whether CUDA would raise for a call of an operation, such as ``torch.ops.aten.cumsum.default``."""
    name = func._schema.name.split('::')[1]
    case = _BY_OPERATION.get(name) or _BY_OPERATION.get(f'{name}.{func._overloadname}')
    return case is not None and case(*args, **kwargs)


def documented() -> set[str]:
    """The names that the installed torch says will raise."""
    text = torch.use_deterministic_algorithms.__doc__ or ''
    start = text.index('will throw a', text.index('operations will act'))
    items = re.findall(
        r'^\s*\* :\w+:`torch\.([\w.]+)`', text[start : text.index('In addition', start)], re.M
    )
    return {item.rpartition('.')[2] for item in items}
