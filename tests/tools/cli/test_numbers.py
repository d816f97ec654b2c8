"""Numbers on the command line."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

import pytest

from cli import add_common_options, positive_number, whole_number


@pytest.mark.parametrize('text', ['-1', '0', '1.5', 'many', '', '\u0663'])
def test_what_is_no_whole_number_from_one(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"whole number of at least 1, but got '{text}'"):
        whole_number()(text)


def test_whole_numbers() -> None:
    assert whole_number()('12') == 12
    assert whole_number(0)('0') == 0


@pytest.mark.parametrize('text', ['-5', '0', 'nan', 'inf', 'soon'])
def test_a_time_to_wait_is_above_zero(text: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ArgumentTypeError, match=f"finite number above 0, but got '{text}'"):
        positive_number(text)
    parser = ArgumentParser()
    add_common_options(parser)
    assert parser.parse_args(['--dist-timeout', '2.5']).dist_timeout == 2.5
    with pytest.raises(SystemExit):
        parser.parse_args([f'--dist-timeout={text}'])
    assert f"finite number above 0, but got '{text}'" in capsys.readouterr().err
