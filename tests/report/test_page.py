"""The page's templates escape all that they are given."""

from __future__ import annotations

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
