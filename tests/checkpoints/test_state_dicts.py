"""What is said about weights that do not fit."""

from __future__ import annotations

import torch

from mmkdlayer.checkpoints import describe_misfits


def tensors(**shapes: tuple) -> dict:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def test_weights_that_fit():
    assert describe_misfits(tensors(a=(2,), b=(3, 1)), tensors(b=(3, 1), a=(2,))) == []


def test_all_that_does_not_fit_is_named():
    expected = tensors(a=(2,), b=(3, 1), c=(1,), d=(1,), e=(1,), f=(1,), **{'bn.count': ()})
    found = tensors(b=(3, 2), z=(1,))
    assert describe_misfits(expected, found, optional='.count') == [
        '5 missing (a, c, d and 2 more)',
        '1 unknown (z)',
        '1 of another shape (b is (3, 2) there and (3, 1) in the model)',
    ]
    assert describe_misfits(tensors(**{'bn.count': ()}), {}) == ['1 missing (bn.count)']
