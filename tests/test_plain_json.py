"""JSON that others wrote."""

from __future__ import annotations

import json
import sys

import pytest

from mmkdlayer.plain_json import DEEPEST, parse_json, read_json_lines


@pytest.mark.parametrize(
    'value',
    [
        {'a': [1, {'b': None}], 'c': 1.5},
        '[' * 1000,  # brackets in a string are none
        ['"[' * 500, '\\"[' * 500, '\\'],
        [{}] * 1000,
    ],
)
def test_it_reads_what_json_reads(value):
    assert parse_json(json.dumps(value)) == value


def test_depth_up_to_the_limit():
    def nested(depth):
        return '[' * depth + ']' * depth

    assert json.dumps(parse_json(nested(DEEPEST))) == nested(DEEPEST)
    with pytest.raises(ValueError, match='nested more than'):
        parse_json(nested(DEEPEST + 1))


@pytest.mark.parametrize(
    'text', ['[' * 100000 + ']' * 100000, '{"a":' * 100000, '["' + '\\"[' * 99]
)
def test_hostile_texts_are_refused_whatever_the_recursion_limit(text):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(2**20)
    try:
        with pytest.raises(ValueError):  # noqa: PT011  (of this parser, or Python's)
            parse_json(text)
    finally:
        sys.setrecursionlimit(before)


def test_lines_of_a_log_but_for_what_is_cut_off(tmp_path):
    log = tmp_path / 'scalars.json'
    log.write_bytes(b'{"loss": 1}\n[2]\n\n\xff{}\n{"loss": NaN, "step": 2}\n{"loss": 3')
    first, last = read_json_lines(log)
    assert first == {'loss': 1}
    assert last['step'] == 2
