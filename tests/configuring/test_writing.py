"""Text of configs: it reads back as what was written."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from mmkdlayer.configuring.writing import Name, format_config

VALUES = dict(
    short=dict(a=1, b=(1,), c=[], d={}, e=(), f=None, g=-0.5, h="it's"),
    long=dict(
        names=[f'a rather long name, number {number}' for number in range(6)],
        pairs=tuple((number, str(number)) for number in range(40)),
        keys={'not a name': 1, 'x' * 80: dict(y=2)},
    ),
)


def test_reads_back(tmp_path: Path) -> None:
    comments = {('long', 'pairs'): 'first line\nsecond line', ('short', 'b'): 'one'}
    sections = [('', dict(short=VALUES['short'])), ('Long.', dict(long=VALUES['long']))]
    text = format_config('A header\n\nof lines', sections, comments)
    file = tmp_path / 'config.py'
    file.write_text(text)
    assert Config.fromfile(file).to_dict() == VALUES
    assert max(map(len, text.splitlines())) <= 105
    assert text.startswith('# A header\n#\n# of lines\n\nshort = dict(\n')
    assert '    # first line\n    # second line\n    pairs=(\n' in text
    assert '\n\n# Long.\nlong = dict(\n' in text


def test_short_values_stay_on_one_line() -> None:
    assert format_config('x', [('', dict(a=dict(b=[1, 2])))], {}) == '# x\n\na = dict(b=[1, 2])\n'


def test_name_of_an_earlier_value(tmp_path: Path) -> None:
    text = format_config('x', [('', dict(a=dict(b=1), c=Name('a')))], {})
    assert text.endswith('c = a\n')
