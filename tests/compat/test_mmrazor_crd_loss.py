"""mmrazor's CRDLoss on a GPU, with the numbers of images on the host."""

from __future__ import annotations

import pytest
import torch
from mmpretrain.structures import DataSample
from simulated_cuda.device import SimulatedCuda

import mmkdlayer  # noqa: F401

pytest.importorskip('mmrazor', reason='it fixes a loss of mmrazor')


@pytest.mark.parametrize('given', [True, False])
def test_numbers_of_the_host_find_the_memory_on_the_device(given: bool) -> None:
    from mmrazor.models.losses import CRDLoss

    features = torch.randn(2, 2, 8)
    samples = []
    for index in range(2):
        numbers = dict(sample_idx=torch.tensor(index))
        if given:
            numbers['contrast_sample_idxs'] = torch.tensor([index, 3, 4, 5])
        sample = DataSample()
        sample.set_data(numbers)
        samples.append(sample)
    loss = CRDLoss(neg_num=3, sample_n=6, dim_out=8)
    torch.manual_seed(1)
    expected = CRDLoss(neg_num=3, sample_n=6, dim_out=8)
    expected.load_state_dict(loss.state_dict())
    torch.manual_seed(0)
    value = expected(*features, samples)
    with SimulatedCuda() as cuda:
        torch.manual_seed(0)
        found = loss.to('cuda')(*features.to('cuda'), samples)
        assert found.is_cuda
        assert cuda.found('mix') == []
    torch.testing.assert_close(found, value)
