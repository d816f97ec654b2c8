"""Errors as the commands show them."""

from __future__ import annotations

import re
import signal
import sys
from urllib.error import URLError

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader, Dataset

from cli import report_errors, watch_signals
from mmkdlayer.engine.signals import WATCH
from mmkdlayer.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (ConfigError('class `A` in b/c.py: what is wrong'), 'error: what is wrong'),
        (URLError('no network'), 'a download failed.*teacher_ckpt=FILE'),
        (ImportError('Please run "pip install x"'), 'package that is not there: Please run "pip'),
        (FileNotFoundError(2, 'No such file', 'x'), 'FileNotFoundError: .*No such file'),
    ],
)
def test_what_a_user_can_fix(error, words, capsys):
    with pytest.raises(SystemExit) as ended, report_errors():
        raise error
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert 'Traceback' not in printed
    assert re.search(words, printed)


def test_a_config_that_needs_mmrazor_where_there_is_none(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'mmrazor', None)
    with pytest.raises(SystemExit), report_errors():
        raise KeyError('mmrazor.SingleTeacherDistill is not in the mmengine::model registry')
    assert 'pip install "mmrazor>=1,<2" joblib' in capsys.readouterr().err


@pytest.mark.parametrize(
    'error', [KeyError('key'), RuntimeError('shapes differ'), TypeError('x'), ImportError('y')]
)
def test_what_a_user_can_not_fix_keeps_its_traceback(error):
    with pytest.raises(type(error)), report_errors():
        raise error


class Failing(Dataset):
    def __getitem__(self, index):
        raise DataError('The image x.jpg can not be read.')

    def __len__(self):
        return 1


def test_error_of_a_worker_is_one_paragraph_too(capsys):
    with pytest.raises(SystemExit), report_errors():
        next(iter(DataLoader(Failing(), num_workers=1)))
    assert capsys.readouterr().err == '\nerror: The image x.jpg can not be read.\n'


def test_debug_shows_the_traceback_too(capsys):
    with pytest.raises(SystemExit), report_errors(debug=True):
        raise ConfigError('what is wrong')
    assert 'Traceback' in capsys.readouterr().err


def test_ctrl_c_is_one_line(capsys):
    """Whatever the code in between makes of it: mmengine calls it a failure to format."""
    with pytest.raises(SystemExit) as ended, report_errors():
        try:
            signal.raise_signal(signal.SIGINT)
        except:  # noqa: E722
            raise SyntaxError('Failed to format the config file') from None
    assert ended.value.code == 130
    assert capsys.readouterr().err == '\nCtrl-C: ended with exit code 130.\n'
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    with pytest.raises(SystemExit) as ended, report_errors():
        raise KeyboardInterrupt
    assert ended.value.code == 130


def test_a_watch_that_was_begun_meanwhile_is_stopped():
    with report_errors():
        watch_signals(Config())
        assert WATCH.numbers == (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_an_end_is_no_error():
    with pytest.raises(SystemExit) as ended, report_errors():
        sys.exit(75)
    assert ended.value.code == 75
