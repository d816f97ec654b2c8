from __future__ import annotations

import pytest
import torch

from mmkdlayer.fitting import numerics


@pytest.mark.parametrize('onednn', [True, False])
def test_affine_is_a_real_float32_product_under_any_setting_of_the_caller(monkeypatch, onednn):
    if not onednn:
        monkeypatch.setattr(numerics, '_has_onednn', lambda: False)
    generator = torch.Generator().manual_seed(0)
    points, weight = (torch.randn(64, 96, generator=generator) for _ in range(2))
    bias = torch.randn(64, generator=generator)
    bias[3] = -torch.inf
    torch.set_float32_matmul_precision('medium')
    try:
        with torch.autocast('cpu', torch.bfloat16), numerics.exact_float32(points.device):
            found = numerics.affine(points, weight, bias)
    finally:
        torch.set_float32_matmul_precision('highest')
    expected = points.double() @ weight.double().t() + bias
    bound = 100 * 2.0**-24 * (points.norm(dim=1).max() * weight.norm(dim=1).max() + 4)
    assert torch.equal(found[:, 3], expected[:, 3].float())
    keep = [index for index in range(64) if index != 3]
    assert (found.double() - expected)[:, keep].abs().max() < bound


def test_a_torch_without_the_product_is_no_error(monkeypatch):
    def missing(*args):
        raise AttributeError('no such operator')

    monkeypatch.setattr(numerics, '_onednn_affine', missing)
    assert numerics._has_onednn.__wrapped__() is False
