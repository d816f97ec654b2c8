"""Freed memory is kept on CPUs, or given back at once, unless somebody chose otherwise."""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any, Callable

import pytest
from mmengine.config import Config

from mmkdlayer.engine import allocator
from mmkdlayer.errors import ConfigError

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')
LEFT_AFTER_FREEING = """
import ctypes, os
from mmengine.config import Config
from mmkdlayer.engine.allocator import keep_memory, return_memory

def resident():
    return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
for choose in (lambda: None, return_memory):
    choose()
    for size in (30 << 20, 20 << 20):  # the second one is taken from the heap, below what stays
        before = resident()
        place = ctypes.c_void_p(libc.malloc(size))
        ctypes.memset(place, 1, size)
        above = libc.malloc(1000)
        libc.free(place)
    print(round(resident() - before))
for wanted in (False, True):
    print(keep_memory(Config(dict(env_cfg=dict(keep_memory=wanted)))))
    before = resident()
    place = ctypes.c_void_p(libc.malloc(100 << 20))
    ctypes.memset(place, 1, 100 << 20)
    libc.free(place)
    print(round(resident() - before))
"""


@needs_glibc
def test_memory_is_given_back_or_kept(
    run_script: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*allocator.VARIABLES, 'GLIBC_TUNABLES', 'LD_PRELOAD'):
        monkeypatch.delenv(name, raising=False)
    lines = run_script(LEFT_AFTER_FREEING).splitlines()
    hole, returned, nothing, given_back, note, kept = lines
    assert int(hole) > 15 and int(returned) < 5
    assert nothing == '' and int(given_back) < 5
    # Of 100 MB, 20 may lie in the hole.
    assert 'env_cfg.keep_memory=False turns this off' in note and int(kept) > 75


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        *((name, '1') for name in allocator.VARIABLES),
        ('GLIBC_TUNABLES', 'glibc.malloc.trim_threshold=128'),
    ],
)
def test_what_the_user_chose_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: pytest.fail('the allocator is looked for'))
    monkeypatch.setenv(name, value)
    assert allocator.keep_memory(Config()) == ''
    allocator.return_memory()


def test_another_device_system_or_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, 'get_device', lambda: 'cuda')
    assert allocator.keep_memory(Config()) == ''
    monkeypatch.setattr(allocator, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert allocator.keep_memory(Config()) == ''
    monkeypatch.setattr(sys, 'platform', 'linux')

    def missing(name: Any) -> None:
        raise OSError('libc.so.6: cannot open shared object file')

    monkeypatch.setattr(ctypes, 'CDLL', missing)  # musl
    assert allocator.keep_memory(Config()) == ''


@needs_glibc
def test_another_allocator_is_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL

    class Preloaded:
        malloc = load('libc.so.6').calloc

    monkeypatch.setattr(ctypes, 'CDLL', lambda name: load(name) if name else Preloaded())
    assert allocator.keep_memory(Config()) == ''


def test_neither_true_nor_false() -> None:
    with pytest.raises(ConfigError, match=r"env_cfg.keep_memory='yes': expected True or False"):
        allocator.keep_memory(Config(dict(env_cfg=dict(keep_memory='yes'))))
