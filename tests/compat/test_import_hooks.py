from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

import pytest

from mmkdlayer.compat.import_hooks import RunOnImport, install_finder


def add_line(module: Any, run: Callable[[ModuleType], None]) -> None:
    run(module)
    module.lines += 1


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / 'watched_module.py').write_text('lines = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    before = len(sys.meta_path)
    for _ in range(2):
        install_finder(RunOnImport('watched_module', add_line))
    assert len(sys.meta_path) == before + 1
    monkeypatch.delitem(sys.modules, 'watched_module', raising=False)
    return 'watched_module'


def test_module_is_run_through_the_function(watched: str) -> None:
    assert importlib.util.find_spec(watched) is not None and watched not in sys.modules
    module = importlib.import_module(watched)
    assert module.lines == 2
    assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader
    assert module.__spec__.loader.get_source(watched) == 'lines = 1\n'
    assert importlib.reload(module).lines == 2
    sys.modules.pop(watched)


def test_a_loader_of_many_modules_is_left_alone(watched: str) -> None:
    shared = SourceFileLoader(watched, importlib.util.find_spec(watched).origin)

    class Finder:
        def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
            return importlib.util.spec_from_loader(name, shared) if name == watched else None

    sys.meta_path.insert(1, Finder())  # next to the watch
    assert importlib.import_module(watched).lines == 2
    assert 'exec_module' not in vars(shared)
    sys.modules.pop(watched)
