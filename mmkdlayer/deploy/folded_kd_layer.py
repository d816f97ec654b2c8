"""The KD layer as it is needed at inference: two plain 1x1 convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.connectors import KDLayerConnector
from mmkdlayer.models.connectors.unit_conv import EPS, inverse_norm
from mmkdlayer.models.ops import check_map, check_sizes
from mmkdlayer.registry import MODELS

#: Assignments (positions x templates) that are in memory at a time on a CPU: 16 MiB of float32. Memory
#: of this size is used again by the next tile; larger pieces are asked of the system anew each time.
TILE = 1 << 22
MIN_TEMPLATES = 256


@MODELS.register_module()
class FoldedKDLayer(nn.Module):
    """A trained KD layer with everything that is constant at inference folded into its weights.

    With the slope ``g_k = gamma_k / sqrt(var_k + eps)`` of the batch norm, the layer
    (:class:`~mmkdlayer.models.connectors.KDLayerConnector`) is ::

        a_k    = g_k * s1 * w_k / |w_k|          weight of ``templates``
        b_k    = beta_k - g_k * mean_k           bias of ``templates``
        m_c    = alpha * s2 * u_c / |u_c|        weight of ``semantics``

        q(i)   = ReLU(<a_k, x_i / |x_i|> + b_k)  for each template k
        out(i) = x_i + <m_c, q(i)> / |q(i)|      for each channel c

    so it is two 1x1 convolutions, the norms of two vectors at each position, and a ReLU. It has no
    training mode. The map is kept in channels-last order, in which the norms cost next to nothing.
    Torch's switches and autocast decide how precise the convolutions are, as in the rest of a student.

    Args:
        in_channels: C, channels of the feature map.
        num_templates: K, templates that are left.

    Raises:
        ConfigError: A size is not a positive integer.
    """

    def __init__(self, in_channels: int, num_templates: int) -> None:
        super().__init__()
        check_sizes('FoldedKDLayer', in_channels=in_channels, num_templates=num_templates)
        self.in_channels = in_channels
        self.num_templates = num_templates
        self.templates = nn.Conv2d(in_channels, num_templates, 1)
        self.semantics = nn.Conv2d(num_templates, in_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the matched templates mean to the feature map (N, C, H, W).

        Raises:
            ConfigError: ``x`` has another number of dimensions or channels.
        """
        check_map('FoldedKDLayer', x, self.in_channels)
        if torch.is_grad_enabled() or torch.jit.is_tracing() or x.device.type != 'cpu':
            matches = self.match(x)
            values = self.semantics(matches) * inverse_norm(matches)
        else:
            values = self._explain_in_tiles(x)
        return x + values.to(x.dtype)

    def match(self, x: Tensor) -> Tensor:
        """The assignments q, shape (N, K, H, W): how strongly each position matches each template."""
        return F.relu(self.templates(self._unit(x)), inplace=True)

    def _unit(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return (x * inverse_norm(x)).to(self.templates.weight.dtype)

    def _explain_in_tiles(self, x: Tensor) -> Tensor:
        """The values (N, C, H, W), from as many templates at a time as the memory may hold."""
        unit = self._unit(x)
        positions = max(1, unit.numel() // self.in_channels)
        step = max(MIN_TEMPLATES, TILE // positions)
        weight, bias = self.templates.weight, self.templates.bias
        values = torch.zeros_like(unit, dtype=torch.promote_types(unit.dtype, torch.float32))
        squares = torch.zeros_like(values[:, :1])
        for start in range(0, self.num_templates, step):
            tile = slice(start, start + step)
            matches = F.conv2d(unit, weight[tile], None if bias is None else bias[tile]).relu_()
            norm = torch.linalg.vector_norm(matches, dim=1, keepdim=True, dtype=values.dtype)
            squares += norm.square_()
            values += F.conv2d(matches, self.semantics.weight[:, tile])
        norms = squares.sqrt_()
        values *= torch.where(norms > 0, norms.clamp_min(EPS).reciprocal(), torch.zeros_like(norms))
        return values

    def keep(self, templates: Tensor) -> FoldedKDLayer:
        """A copy with the templates that a bool (K,) chooses, at least one."""
        weight, bias, meanings = self.state_dict().values()
        return make_folded_layer(weight[templates], bias[templates], meanings[:, templates])


def make_folded_layer(weight: Tensor, bias: Tensor, meanings: Tensor) -> FoldedKDLayer:
    """A layer of weights: of ``templates`` (K, C, 1, 1) and (K,), of ``semantics`` (C, K, 1, 1)."""
    layer = FoldedKDLayer(weight.size(1), weight.size(0)).to(weight)
    layer.load_state_dict(
        {'templates.weight': weight, 'templates.bias': bias, 'semantics.weight': meanings}
    )
    return layer.eval()


@torch.no_grad()
def fold_layer(layer: KDLayerConnector) -> FoldedKDLayer | None:
    """Fold a trained KD layer, and leave out the templates that no input can match.

    A cosine is at most 1, so a template with ``|a_k| + b_k <= 0`` is 0 after the ReLU for
    any input.

    Returns:
        The folded layer, or None if the layer never adds anything: alpha is 0, or no template is left.

    Raises:
        ConfigError: Its batch norm has no running statistics, so it is not constant at inference.
    """
    bn = layer.bn
    if bn.running_mean is None or bn.running_var is None:
        raise ConfigError(
            'A KD layer whose batch norm has no running statistics (track_running_stats=False) cannot '
            'be folded, since it depends on the batch. Export it without --fold.'
        )
    slope = bn.weight.double() * (bn.running_var.double() + bn.eps).rsqrt()
    kernel = F.normalize(layer.templates.weight.double(), dim=1, eps=EPS)
    templates = (slope * layer.templates.scale.double())[:, None, None, None] * kernel
    bias = bn.bias.double() - bn.running_mean.double() * slope
    meanings = F.normalize(layer.semantics.weight.double(), dim=1, eps=EPS)
    semantics = layer.alpha * layer.semantics.scale.double() * meanings
    # The margin covers rounding in float32; entries that are not finite stay, to be noticed.
    never = templates.flatten(1).norm(dim=1) * (1 + 1e-5) + bias < 0
    if layer.alpha == 0 or bool(never.all()):
        return None
    folded = make_folded_layer(templates[~never], bias[~never], semantics[:, ~never])
    return folded.to(layer.templates.weight)
