"""The page's templates escape all that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from mmkdlayer.report.page import number, percent, render

EVIL = '<script>alert(1)</script>'


def test_names_are_escaped() -> None:
    view = dict(
        title=EVIL,
        facts=[(EVIL, EVIL)],
        notes=[EVIL],
        sections=[('overview', EVIL)],
        version=EVIL,
        date=EVIL,
        classes=[EVIL],
        teacher=[],
        student=[],
        geometry=None,
        curves=None,
        costs=None,
    )
    page = render('report.html', view)
    assert EVIL not in page and page.count('&lt;script&gt;') >= 7
    assert "default-src 'none'" in page and 'http://' not in page and 'https://' not in page


def test_numbers() -> None:
    assert (percent(0.123456), percent(None), percent(1, 0)) == ('12.3 %', '–', '100 %')
    assert (number(1234567), number(0.123456), number(3.0), number(None)) == (
        *('1,234,567', '0.1235', '3'),
        '–',
    )


@pytest.mark.parametrize('kind', [float, np.float32, np.float64])
def test_numbers_of_any_type_are_rounded_alike(kind: type) -> None:
    assert (number(kind(3.72), 3), number(kind(3.0)), number(kind(1234567))) == (
        *('3.72', '3', '1,234,567'),
    )
