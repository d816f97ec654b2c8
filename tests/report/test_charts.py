"""Charts as SVG."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from mmkdlayer.report import charts


def test_columns_are_as_high_as_their_values() -> None:
    chart = charts.columns([1.0, 0.0, 4.0], ('a', '<b>'), 'x & y')
    root = ElementTree.fromstring(str(chart))
    heights = [float(bar.attrib['height']) for bar in root.iter('rect')]
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.01) and len(heights) == 2
    assert [text.text for text in root.iter('text')] == ['4', '0', 'a', '<b>']
    assert root.attrib['aria-label'] == 'x & y'


def test_lines_have_a_legend_and_leave_out_what_is_no_number() -> None:
    series = {'<loss>': [(0.0, 1.0), (1.0, float('nan')), (2.0, 0.5)], 'one': [(1.0, 0.7)]}
    chart = str(charts.lines(series, 'Losses', 'iteration'))
    assert '&lt;loss&gt; 0.5' in chart and '<loss>' not in chart and 'nan' not in chart
    root = ElementTree.fromstring(f'<div>{chart}</div>')
    assert [len(line.attrib['points'].split()) for line in root.iter('polyline')] == [2, 1]
    assert len(list(root.iter('circle'))) == 1
    assert charts.lines({'none': []}, 'x', 'y') == ''


def test_long_lines_are_thinned_to_means() -> None:
    thin = charts.thin([(i, float(i % 2)) for i in range(1000)], most=250)
    assert len(thin) == 250 and thin[0] == (1.5, 0.5)


def test_counts_that_stay_0_have_nothing_below() -> None:
    chart = charts.lines(dict(dead=[(1, 0), (2, 0)]), 'Dead templates', 'iteration')
    assert '>0<' in chart and '>-' not in chart
