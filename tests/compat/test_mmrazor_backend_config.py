from __future__ import annotations

import importlib
import importlib.machinery
import inspect
from pathlib import Path
from types import ModuleType
from typing import Callable

import pytest

from mmkdlayer.compat import enable
from mmkdlayer.compat.mmrazor_backend_config import BACKEND_CONFIG

HEALTHY = (
    "from .native import get_native\n__all__ = ['BackendConfigs']\nBackendConfigs = {'native': 1}\n"
)


def _import_fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> ModuleType:
    package = tmp_path
    for part in BACKEND_CONFIG.split('.'):
        package = package / part
        package.mkdir()
        (package / '__init__.py').write_text('')
    (package / '__init__.py').write_text(source)
    (package / 'native.py').write_text('def get_native():\n    return 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    enable()
    return importlib.import_module(BACKEND_CONFIG)


@pytest.mark.usefixtures('without_mmrazor')
def test_healthy_module_is_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _import_fake(tmp_path, monkeypatch, HEALTHY)
    assert type(module.BackendConfigs) is dict and module.BackendConfigs == {'native': 1}
    assert module.__all__ == ['BackendConfigs']
    assert type(module.__loader__) is importlib.machinery.SourceFileLoader
    assert type(module.__spec__.loader) is importlib.machinery.SourceFileLoader
    assert inspect.getsource(module) == HEALTHY
    assert importlib.import_module(f'{BACKEND_CONFIG}.native').get_native() == 1


@pytest.mark.usefixtures('without_mmrazor')
@pytest.mark.parametrize(
    'cause',
    [
        "raise ImportError('`torch>=1.13` is not installed properly, plz check.')",
        "import torch.no_such_part",
        "import torch\ntorch.no_such_name",
        "from torch import no_such_name",
    ],
)  # fmt: skip
def test_names_missing_in_torch_bring_the_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    module = _import_fake(
        tmp_path, monkeypatch, f'from .native import get_native\nleft_over = 1\n{cause}\n'
    )
    assert dict(module.BackendConfigs) == {} and 'native' not in module.BackendConfigs
    assert not hasattr(module, 'left_over')
    assert f'{BACKEND_CONFIG}.native' not in importlib.sys.modules
    assert len(module.__all__) == 9
    for name in module.__all__[1:]:
        with pytest.raises(RuntimeError, match=f'{name}.*torch 1.13'):
            getattr(module, name)()
    with pytest.raises(RuntimeError, match="'native'.*torch 1.13"):
        module.BackendConfigs['native']


@pytest.mark.usefixtures('without_mmrazor')
@pytest.mark.parametrize('cause', ['import no_such_package', "raise ImportError('disk on fire')"])
def test_other_errors_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    with pytest.raises(ImportError, match='no_such_package|disk on fire'):
        _import_fake(tmp_path, monkeypatch, cause)


def test_enable_imports_neither_mmrazor_nor_mmpretrain(run_python: Callable[..., str]) -> None:
    printed = run_python(
        'enable()\nprint([m for m in sys.modules if m.split(".")[0] in ("mmrazor", "mmpretrain")])',
        compat_alone=True,
    )
    assert printed.strip() == '[]'


def test_enable_without_mmrazor(run_python: Callable[..., str]) -> None:
    printed = run_python(
        'class NoMMRazor:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        '        if name.split(".")[0] == "mmrazor":\n'
        '            raise ModuleNotFoundError("No module named " + name, name=name)\n'
        'sys.meta_path.insert(0, NoMMRazor())\n'
        'enable()\n'
        'try:\n'
        '    import mmrazor\n'
        'except ModuleNotFoundError as error:\n'
        '    print(error.name)\n',
        compat_alone=True,
    )
    assert printed.strip() == 'mmrazor'
