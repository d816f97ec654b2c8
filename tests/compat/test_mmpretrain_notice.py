from __future__ import annotations

import types

import pytest

from mmkdlayer.compat.mmpretrain_notice import NOTICE, run_without_notice


def test_only_the_notice_is_kept_back(capsys: pytest.CaptureFixture[str]) -> None:
    def run(module: types.ModuleType) -> None:
        print(NOTICE)
        print('something that matters')
        module.ran = True

    module = types.ModuleType('mmpretrain.datasets')
    run_without_notice(module, run)
    assert module.ran
    assert capsys.readouterr().out == 'something that matters\n'


def test_what_a_failing_import_printed_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def run(module: types.ModuleType) -> None:
        print('why')
        raise ImportError('it failed')

    with pytest.raises(ImportError, match='it failed'):
        run_without_notice(types.ModuleType('mmpretrain.datasets'), run)
    assert capsys.readouterr().out == 'why\n'
