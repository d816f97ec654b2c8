from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

import pytest
from command_line import ROOT

from mmkdlayer import __main__ as commands
from mmkdlayer import __version__

PYTHON_SCRIPT = '''"""Says what it was given.

More words.
"""
import json, sys
import beside
print(json.dumps([__name__, sys.argv[1:], beside.VALUE]))
'''


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands, in the place of the installed one."""
    folder = tmp_path / 'tools'
    folder.mkdir()
    (folder / 'train.py').write_text(PYTHON_SCRIPT)
    (folder / 'beside.py').write_text('VALUE = 7\n')
    (folder / 'launch.sh').write_text('#!/usr/bin/env bash\n# Starts it.\n')
    (folder / 'torchrun.sh').write_text('#!/usr/bin/env bash\n# Helps.\n')
    monkeypatch.setattr(commands, 'FOLDERS', (tmp_path / 'missing', folder))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    return folder


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, 'argv', ['mmkdlayer', *arguments])
    try:
        commands.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_every_command_of_the_project_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, '--help') == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:]]
    scripts = {path.stem for path in (ROOT / 'tools').iterdir() if path.suffix in ('.py', '.sh')}
    assert listed == sorted(scripts - set(commands.HELPERS))
    assert {'train', 'test', 'fit_decisions', 'export_student', 'make_config'} <= set(listed)


@pytest.mark.usefixtures('tools')
def test_the_list_says_what_each_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch) == 2
    lines = capsys.readouterr().out.splitlines()
    assert '  launch  Starts it.' in lines
    assert '  train   Says what it was given.' in lines
    assert not any('torchrun' in line for line in lines)


@pytest.mark.usefixtures('tools')
def test_a_command_runs_as_the_main_script_with_its_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, 'train', 'a', '--b', 'c d') == 0
    assert capsys.readouterr().out == '["__main__", ["a", "--b", "c d"], 7]\n'


def test_a_launcher_is_given_this_python(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list = []
    monkeypatch.setattr(os, 'execvp', lambda *arguments: called.append(arguments))
    monkeypatch.delenv('PYTHON', raising=False)
    assert _run(monkeypatch, 'launch', 'CONFIG', '2') == 0
    assert called == [('bash', ['bash', str(tools / 'launch.sh'), 'CONFIG', '2'])]
    assert os.environ['PYTHON'] == sys.executable
    monkeypatch.delenv('PYTHON')


@pytest.mark.parametrize(
    ('typed', 'hint'),
    [
        ('trian', 'Did you mean train'),
        ('fit-decision', 'Did you mean fit_decisions'),
        ('export', 'Did you mean export_student'),
        ('xyzzy', 'There are '),
    ],
)
def test_an_unknown_command_is_answered_with_near_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, hint: str
) -> None:
    assert _run(monkeypatch, typed) == 2
    error = capsys.readouterr().err
    assert f'no command {typed!r}' in error
    assert hint in error


def test_hyphens_are_taken_for_underscores(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tools / 'make_config.py').write_text('print("made")\n')
    assert _run(monkeypatch, 'make-config') == 0
    assert capsys.readouterr().out == 'made\n'


def test_a_broken_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, 'FOLDERS', (tmp_path / 'missing', tmp_path))
    assert 'pip install --force-reinstall' in str(_run(monkeypatch, 'train'))


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, '--version') == 0
    assert capsys.readouterr().out.strip() == __version__


def test_messages_name_commands_as_a_wheel_has_them() -> None:
    # "python tools/train.py" is nothing that somebody without a checkout can run.
    named = re.compile(r'tools/\w+\.(py|sh)')
    wrong = [
        f'{path.relative_to(ROOT)}:{node.lineno}'
        for path in [*(ROOT / 'mmkdlayer').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]
        if '.mim' not in path.parts and path.name != 'quickstart.py'
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and named.search(node.value)
    ]
    assert not wrong
