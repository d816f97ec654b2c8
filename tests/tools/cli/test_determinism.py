"""Deterministic products on a GPU."""

from __future__ import annotations

import os
from typing import Any

import pytest

from cli import determinism
from cli.determinism import VARIABLE, prepare_determinism
from mmkdlayer.errors import ConfigError

ASKED = dict(randomness=dict(seed=0, deterministic=True))


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism, 'get_device', lambda: 'cuda')
    monkeypatch.setenv(VARIABLE, '')
    monkeypatch.delenv(VARIABLE)


def test_the_workspace_is_chosen_where_it_is_asked_for() -> None:
    prepare_determinism(ASKED)
    assert os.environ[VARIABLE] == ':4096:8'


@pytest.mark.parametrize('cfg', [dict(), dict(randomness=None), dict(randomness=dict(seed=0))])
def test_nothing_is_set_otherwise(cfg: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_determinism(cfg)
    monkeypatch.setattr(determinism, 'get_device', lambda: 'cpu')
    prepare_determinism(ASKED)
    assert VARIABLE not in os.environ


def test_what_is_set_stays_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ':16:8')
    prepare_determinism(ASKED)
    assert os.environ[VARIABLE] == ':16:8'
    monkeypatch.setenv(VARIABLE, ':8:1')
    with pytest.raises(ConfigError, match='CUBLAS_WORKSPACE_CONFIG=:8:1, .*:4096:8 or :16:8'):
        prepare_determinism(ASKED)
