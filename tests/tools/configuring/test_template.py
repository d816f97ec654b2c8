"""Text of configs: it reads back as what was written."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from configuring.template import assignments

VALUES = dict(
    short=dict(a=1, b=(1,), c=[], d={}, e=(), f=None, g=-0.5, h="it's"),
    long=dict(
        names=[f'a rather long name, number {number}' for number in range(6)],
        pairs=tuple((number, str(number)) for number in range(40)),
        keys={'not a name': 1, 'x' * 80: dict(y=2)},
    ),
)


def test_reads_back(tmp_path: Path) -> None:
    text = assignments(VALUES)
    file = tmp_path / 'config.py'
    file.write_text(text)
    assert Config.fromfile(file).to_dict() == VALUES
    assert text.startswith('short = dict(a=1, b=(1, ), c=[], ')
