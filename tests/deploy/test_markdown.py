"""Texts of others in Markdown."""

from __future__ import annotations

import pytest

from mmkdlayer.deploy.markdown import LONGEST, plain, table_rows


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('cat', 'cat'),
        ('ResNet_CIFAR (depth=18)', 'ResNet_CIFAR (depth=18)'),
        ('_cat_', r'\_cat\_'),
        ('<b>', '&lt;b&gt;'),
        ('a & b', 'a &amp; b'),
        ('a|b', r'a\|b'),
        ('a\n\n# b\r\nc', r'a \# b c'),
        ('a\u2028b\x0bc\x00d', 'a b c d'),
        ('[a](b) `c` *d* \\', r'\[a\](b) \`c\` \*d\* ' + '\\\\'),
        (3, '3'),
    ],
)
def test_plain(text, shown):
    assert plain(text) == shown


def test_rows_of_a_table():
    assert table_rows([('a|b', 1), ('_c_', None)]) == '| a\\|b | 1 |\n| \\_c\\_ | None |'
    assert table_rows([]) == '| None. |'


def test_long_texts_are_cut():
    assert len(plain('x' * 10**6)) == LONGEST + 4
