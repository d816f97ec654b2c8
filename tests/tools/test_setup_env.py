"""Which Python and which host packages ``setup_env.sh`` chooses, with pythons that only answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT

SCRIPT = ROOT / 'tools' / 'setup_env.sh'
#: The commands that the script needs before it makes an environment.
COMMANDS = ('bash', 'cat', 'cksum', 'dirname', 'mkdir', 'rm', 'touch')
# Tells its version; makes no environment, so that the script ends there and has said what it would do.
FAKE_PYTHON = """#!/bin/bash
case "$*" in
  *version_info*) echo {version} ;;
  --version) echo Python {version} ;;
  *) exit 1 ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with bin/ for the commands on PATH, and pyenv/ for pyenv's pythons."""
    (tmp_path / 'bin').mkdir()
    for command in COMMANDS:
        (tmp_path / 'bin' / command).symlink_to(shutil.which(command))
    return tmp_path


def add_python(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE_PYTHON.format(version=version))
    path.chmod(0o755)
    return path


def setup_env(machine: Path, *arguments: str, **environment: str) -> str:
    """Run the script where only the machine's commands are found; return what it says."""
    done = subprocess.run(
        [machine / 'bin' / 'bash', SCRIPT, *arguments],
        env={
            'PATH': str(machine / 'bin'),
            'HOME': str(machine / 'home'),
            'PYENV_ROOT': str(machine / 'pyenv'),
            'MMKDLAYER_ENV': str(machine / 'environment'),
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == ''
    return done.stderr


@pytest.mark.parametrize('version', ['3.9', '3.10', '3.11', '3.12', '3.13'])
def test_every_supported_python_is_found(machine: Path, version: str) -> None:
    python = add_python(machine / 'pyenv' / 'versions' / f'{version}.4' / 'bin' / 'python', version)
    assert f"'{python} -m venv' failed" in setup_env(machine)


def test_commands_come_before_pyenv_and_others_are_passed_over(machine: Path) -> None:
    add_python(machine / 'bin' / 'python3', '3.14')
    add_python(machine / 'bin' / 'python3.12', '3.12')
    add_python(machine / 'pyenv' / 'versions' / '3.13.0' / 'bin' / 'python', '3.13')
    said = setup_env(machine)
    assert 'passing over python3: it is Python 3.14, and 3.9 to 3.13 are supported' in said
    assert "'python3.12 -m venv' failed" in said


def test_no_python_at_all(machine: Path) -> None:
    assert 'no Python 3.9 to 3.13 found' in setup_env(machine)


@pytest.mark.parametrize('version', ['3.8', None])
def test_a_python_that_was_asked_for_is_taken_or_refused(
    machine: Path, version: str | None
) -> None:
    add_python(machine / 'bin' / 'python3.12', '3.12')
    asked = machine / 'with space' / 'python'
    if version:
        add_python(asked, version)
    said = setup_env(machine, PYTHON=str(asked))
    assert f'PYTHON={asked} is no Python 3.9 to 3.13 that works' in said
    add_python(asked, '3.11')
    assert f"'{asked} -m venv' failed" in setup_env(machine, PYTHON=str(asked))


def test_onedl_needs_a_newer_python(machine: Path) -> None:
    add_python(machine / 'bin' / 'python3.9', '3.9')
    assert 'no Python 3.10 to 3.13 found' in setup_env(machine, '--stack', 'onedl')
    add_python(machine / 'bin' / 'python3.10', '3.10')
    assert "'python3.10 -m venv' failed" in setup_env(machine, '--stack=onedl')


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('--stack', 'other'), "--stack expects openmmlab or onedl, but found 'other'"),
        (('--stack',), '--stack expects openmmlab or onedl'),
        (('--stak', 'onedl'), 'no option --stak'),
        (('onedl',), 'onedl is a stack: --stack onedl'),
        (('distil',), "no extra named 'distil'"),
    ],
)
def test_wrong_arguments_are_refused(machine: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in setup_env(machine, *arguments)


def test_the_other_stack_needs_an_environment_of_its_own(machine: Path) -> None:
    # This test's own packages, whichever they are, in an environment with that name.
    (machine / 'environment' / 'bin').mkdir(parents=True)
    python = machine / 'environment' / 'bin' / 'python'
    python.write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    own, other = ('mmengine', 'onedl')
    if subprocess.run(
        [python, '-c', f'import importlib.metadata as m; m.version("{own}")']
    ).returncode:
        own, other = ('onedl-mmengine', 'openmmlab')
    said = setup_env(machine, '--stack', other, PATH=os.environ['PATH'])
    assert f'has {own}, which is not of the stack {other}' in said
