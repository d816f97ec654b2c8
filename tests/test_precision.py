"""Torch's switches for faster products are set aside inside and as they were afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch

from mmkdlayer.fitting import fit_centroids
from mmkdlayer.precision import NEWER_SWITCHES, float32_products

newer = pytest.mark.skipif(not NEWER_SWITCHES, reason='torch before 2.9 has no fp32_precision')
BACKENDS = torch.backends


def switches() -> dict[str, str]:
    """What each of them says; "refused" where torch finds older and newer ones to disagree."""
    found = {}
    if NEWER_SWITCHES:
        for name, switch in newer_switches().items():
            found[name] = switch.fp32_precision
    for name, read in dict(
        matmul=torch.get_float32_matmul_precision,
        cublas=lambda: BACKENDS.cuda.matmul.allow_tf32,
        cudnn=lambda: BACKENDS.cudnn.allow_tf32,
    ).items():
        try:
            found[name] = str(read())
        except RuntimeError:
            found[name] = 'refused'
    return found


def newer_switches() -> dict:
    return dict(
        all=BACKENDS,
        cuda=BACKENDS.cudnn,
        cuda_matmul=BACKENDS.cuda.matmul,
        cuda_conv=BACKENDS.cudnn.conv,
        mkldnn_matmul=BACKENDS.mkldnn.matmul,
        mkldnn_conv=BACKENDS.mkldnn.conv,
    )


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = switches()
    yield
    torch.set_float32_matmul_precision('highest')
    BACKENDS.cudnn.allow_tf32 = True
    if NEWER_SWITCHES:
        for switch in newer_switches().values():
            switch.fp32_precision = 'none'
        BACKENDS.cudnn.conv.fp32_precision = 'tf32'
    assert switches() == before


def use_newer(name: str, value: str) -> None:
    newer_switches()[name].fp32_precision = value


SETTINGS: dict[str, Callable[[], None]] = {
    'untouched': lambda: None,
    'older, high': lambda: torch.set_float32_matmul_precision('high'),
    'older, medium': lambda: torch.set_float32_matmul_precision('medium'),
    'allow_tf32': lambda: setattr(BACKENDS.cuda.matmul, 'allow_tf32', True),
    'no tf32 in cudnn': lambda: setattr(BACKENDS.cudnn, 'allow_tf32', False),
}
NEWER_SETTINGS: dict[str, Callable[[], None]] = {
    'newer, all': lambda: use_newer('all', 'tf32'),
    'newer, cuda': lambda: use_newer('cuda', 'tf32'),
    'newer, matmul': lambda: use_newer('cuda_matmul', 'tf32'),
    'newer, mkldnn': lambda: use_newer('mkldnn_matmul', 'bf16'),
    'newer, exact': lambda: use_newer('cuda_conv', 'ieee'),
}


@pytest.mark.parametrize(
    'names',
    [
        *((name,) for name in SETTINGS),
        *(pytest.param((name,), marks=newer) for name in NEWER_SETTINGS),
        *(
            pytest.param(pair, marks=newer)
            for pair in itertools.chain(
                itertools.product(SETTINGS, NEWER_SETTINGS),
                itertools.product(NEWER_SETTINGS, SETTINGS),
            )
        ),
    ],
    ids=', then '.join,
)
def test_they_are_set_aside_and_put_back(names: tuple[str, ...]) -> None:
    for name in names:
        {**SETTINGS, **NEWER_SETTINGS}[name]()
    before = switches()
    with float32_products():
        inside = switches()
        with float32_products():
            assert switches() == inside
    assert switches() == before
    assert inside['matmul'] == 'highest'
    assert inside['cublas'] == 'False'
    if NEWER_SWITCHES:
        operations = ('cuda_matmul', 'cuda_conv', 'mkldnn_matmul', 'mkldnn_conv')
        assert {inside[name] for name in operations} <= {'none', 'ieee'}
    else:
        assert inside['cudnn'] == 'False'


@newer
def test_a_switch_that_followed_the_general_one_still_does() -> None:
    BACKENDS.fp32_precision = 'tf32'
    with float32_products():
        pass
    BACKENDS.fp32_precision = 'none'
    assert BACKENDS.cuda.matmul.fp32_precision == 'none'
    assert BACKENDS.mkldnn.conv.fp32_precision == 'none'


def test_they_are_put_back_after_an_error() -> None:
    torch.set_float32_matmul_precision('medium')
    before = switches()
    with pytest.raises(KeyError), float32_products():
        raise KeyError
    assert switches() == before


@newer
def test_fitting_under_the_newer_switch_is_the_same() -> None:
    features = torch.randn(20, 8, 3, 2, generator=torch.Generator().manual_seed(0))
    expected = fit_centroids([(features, None)], 9).centroids
    BACKENDS.fp32_precision = 'tf32'
    assert torch.equal(fit_centroids([(features, None)], 9).centroids, expected)
    assert BACKENDS.fp32_precision == 'tf32'
