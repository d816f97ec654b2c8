from __future__ import annotations

import torch

from mmkdlayer.fitting.fitter import working_device


def test_a_device_without_float64_is_left_for_the_cpu():
    assert working_device(torch.device('mps')).type == 'cpu'
    assert working_device(torch.device('cuda', 1)) == torch.device('cuda', 1)
