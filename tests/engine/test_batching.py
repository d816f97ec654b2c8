"""Batches that take one copy to the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from simulated_cuda.device import SimulatedCuda

from mmkdlayer.engine.batching import stack_images

SETTINGS = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 55.0], to_rgb=True)


def samples(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        dict(
            inputs=torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator),
            data_samples=DataSample().set_gt_label(number),
        )
        for number, size in enumerate(sizes)
    ]


def test_images_are_those_of_a_list() -> None:
    given = samples(*[(6, 5)] * 4)
    batch = stack_images(given)
    assert batch['inputs'].shape == (4, 3, 6, 5)
    assert batch['inputs'].dtype == torch.uint8
    preprocessor = ClsDataPreprocessor(**SETTINGS, pad_size_divisor=4)
    expected = preprocessor(pseudo_collate(given), True)
    found = preprocessor(batch, True)
    assert torch.equal(found['inputs'], expected['inputs'])
    labels = [int(sample.gt_label) for sample in found['data_samples']]
    assert labels == [0, 1, 2, 3]


@pytest.mark.parametrize(
    'given',
    [
        samples((6, 5), (5, 6)),  # which a preprocessor pads
        [dict(inputs=[torch.ones(2), torch.ones(2)], data_samples=None)] * 2,  # several views
        [dict(inputs='text')] * 2,
        [torch.ones(2), torch.ones(3)],
    ],
)
def test_anything_else_is_as_it_was(given: list) -> None:
    found, expected = stack_images(given), pseudo_collate(given)
    assert type(found) is type(expected)
    assert str(found) == str(expected)


def test_a_batch_is_one_copy() -> None:
    copies = []
    for collate in (pseudo_collate, stack_images):
        with SimulatedCuda() as cuda:
            preprocessor = ClsDataPreprocessor(**SETTINGS).cuda()
            batch = collate(samples(*[(6, 5)] * 16))
            cuda.events.clear()
            preprocessor(batch, True)
            copies.append(len(cuda.found('copy')))
    assert copies == [17, 2]  # the images and their labels
