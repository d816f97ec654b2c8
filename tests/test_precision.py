"""Torch's switches are set around products and are as before afterwards, in their old and new form."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator

import pytest
import torch

from mmkdlayer.fitting import fit_centroids
from mmkdlayer.precision import float32_products

READ = getattr(torch._C, '_get_fp32_precision_getter', None)
WRITE = getattr(torch._C, '_set_fp32_precision_setter', None)
needs_new_form = pytest.mark.skipif(WRITE is None, reason='torch has the old switches alone')
SWITCHES = [
    ('generic', 'all'),
    ('cuda', 'all'),
    ('cuda', 'matmul'),
    ('mkldnn', 'all'),
    ('mkldnn', 'matmul'),
    ('mkldnn', 'conv'),
]
CUDA, CPU = torch.device('cuda'), torch.device('cpu')


@pytest.fixture(autouse=True)
def switches_of_others() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that the old form goes one day
        yield
        for switch in SWITCHES if WRITE else ():
            WRITE(*switch, 'none')
        torch.set_float32_matmul_precision('highest')
        for switch in SWITCHES if WRITE else ():
            WRITE(*switch, 'none')


def old_form() -> list:
    """What the old form says; 'mix' where torch finds a contradiction to the new one."""
    found: list = []
    for read in (
        torch.get_float32_matmul_precision,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: torch.backends.cudnn.allow_tf32,
    ):
        try:
            found.append(read())
        except RuntimeError:
            found.append('mix')
    return found


def state() -> list:
    """What all switches show."""
    return [READ(*switch) for switch in SWITCHES] + old_form()


def shown_below(value: str) -> list:
    """What the switches for one kind, by their own values, show after those for all were set."""
    for switch in SWITCHES:
        if switch[1] == 'all':
            WRITE(*switch, value)
    return state()


@needs_new_form
@pytest.mark.parametrize('old', ['highest', 'high', 'medium'])
@pytest.mark.parametrize('mkldnn', ['keep', 'none', 'bf16', 'tf32'])
def test_new_form_is_restored_and_never_contradicts(old: str, mkldnn: str) -> None:
    def set_up(values: tuple) -> None:
        for switch in SWITCHES:
            WRITE(*switch, 'none')
        torch.set_float32_matmul_precision(old)
        for switch, value in zip(SWITCHES[:3] + SWITCHES[4:], (*values, mkldnn, mkldnn)):
            if value != 'keep':
                WRITE(*switch, value)

    for values in itertools.product(('none', 'ieee', 'tf32', 'keep'), repeat=3):
        set_up(values)
        before = state()
        below = shown_below('tf32'), shown_below('ieee')
        for device, precision in itertools.product((CUDA, CPU), ('float32', 'tf32')):
            set_up(values)
            with pytest.raises(ZeroDivisionError), float32_products(device, precision):
                inside = state()
                raise ZeroDivisionError
            assert state() == before
            assert (shown_below('tf32'), shown_below('ieee')) == below
            if device == CUDA:
                assert (inside[2] == 'tf32') == (precision == 'tf32')
                # Where the user has not mixed the forms, nothing does.
                assert 'mix' not in inside[6:8] or 'mix' in before[6:8]
            else:
                assert not {'tf32', 'bf16'} & set(inside[4:6])


@pytest.mark.parametrize('device', [CUDA, CPU])
@pytest.mark.parametrize('precision', ['highest', 'high', 'medium'])
def test_old_form_is_restored(precision: str, device: torch.device) -> None:
    torch.set_float32_matmul_precision(precision)
    before = old_form()
    with pytest.raises(ZeroDivisionError), float32_products(device):
        assert old_form()[:2] == ['highest', False]
        raise ZeroDivisionError
    assert old_form() == before
    with float32_products(device, 'tf32'):
        assert torch.backends.cuda.matmul.allow_tf32 == (device == CUDA)
    assert old_form() == before


@needs_new_form
def test_the_top_of_the_new_form() -> None:
    """As it is documented: ``torch.backends.fp32_precision = 'tf32'``."""
    torch.backends.fp32_precision = 'tf32'
    with float32_products(CUDA):
        assert torch.backends.cuda.matmul.fp32_precision == 'ieee'
        with float32_products(CUDA):
            pass
        assert torch.backends.cuda.matmul.fp32_precision == 'ieee'
    assert torch.backends.cuda.matmul.fp32_precision == 'tf32'
    torch.backends.fp32_precision = 'ieee'
    assert torch.backends.cuda.matmul.fp32_precision == 'ieee'


def test_no_autocast_inside() -> None:
    x = torch.ones(2, 2)
    with torch.autocast('cpu', torch.bfloat16):
        with float32_products(CPU):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
    with float32_products(torch.device('meta')):
        pass


@needs_new_form
def test_fitting_under_the_new_form_is_the_same() -> None:
    features = torch.randn(20, 8, 3, 2, generator=torch.Generator().manual_seed(0))
    expected = fit_centroids([(features, None)], 9).centroids
    torch.backends.fp32_precision = 'tf32'
    assert torch.equal(fit_centroids([(features, None)], 9).centroids, expected)
    assert torch.backends.fp32_precision == 'tf32'


@needs_new_form
def test_convolutions_on_gpus_keep_their_switch() -> None:
    """Torch's default for it can't be set again: it is 'tf32', but follows the switches above."""
    with float32_products(CUDA):
        pass
    torch.backends.fp32_precision = 'ieee'
    assert torch.backends.cudnn.conv.fp32_precision != 'tf32'
