"""Python's recursion limit after an import of mmrazor."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mmkdlayer.compat.mmrazor_recursion_limit import RECURSIVE, lower_raised_limit

CODE = """
import sys
sys.setrecursionlimit(1234)
import mmkdlayer
import mmrazor.models
assert all(name in sys.modules for name in sys.argv[1:])
print(sys.getrecursionlimit())
"""


def test_the_limit_is_put_back(run_script):
    pytest.importorskip('mmrazor', reason='it is what raises the limit')
    assert run_script(CODE, *RECURSIVE).split()[-1] == '1234'


@pytest.mark.parametrize(
    ('limit', 'module', 'lowered'),
    [(2**20, RECURSIVE[0], 1000), (2**20, 'another', 2**20), (5000, RECURSIVE[1], 5000)],
)
def test_a_limit_that_mmrazor_raised_before(limit, module, lowered, monkeypatch):
    for name in RECURSIVE:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        lower_raised_limit()
        assert sys.getrecursionlimit() == lowered
    finally:
        sys.setrecursionlimit(before)
