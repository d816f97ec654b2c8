from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

import mmkdlayer

# The compat package on its own, as if it were imported in the middle of ``import mmkdlayer``.
COMPAT_ALONE = """
import sys, types
package = types.ModuleType('mmkdlayer')
package.__path__ = [{path!r}]
sys.modules['mmkdlayer'] = package
from mmkdlayer.compat import enable
"""


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """Run code in a fresh interpreter that can import mmkdlayer; return what it prints."""
    package = Path(mmkdlayer.__file__).parent

    def run(code: str, compat_alone: bool = False, path: tuple[Path, ...] = ()) -> str:
        if compat_alone:
            code = COMPAT_ALONE.format(path=str(package)) + code
        search = [str(entry) for entry in (*path, package.parent)]
        done = subprocess.run(
            [sys.executable, '-c', code],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(search)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def without_mmrazor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every mmrazor module that is imported already; they are back after the test."""
    for name in [name for name in sys.modules if name.split('.')[0] == 'mmrazor']:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split('.')[0] == 'mmrazor':
            del sys.modules[name]
