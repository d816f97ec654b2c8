"""Texts of others in Markdown."""

from __future__ import annotations

import pytest

from mmkdlayer.deploy.markdown import LONGEST, code, plain


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


def test_code():
    assert code('backbone.layer4.0') == '`backbone.layer4.0`'
    assert code('a`b|c\nd') == r"`a'b\|c d`"
    assert code('') == '` `'


def test_long_texts_are_cut():
    assert len(plain('x' * 10**6)) == LONGEST + 4
