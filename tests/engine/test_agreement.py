"""What differs between ranks is named; tests/tools/cli/test_agreement.py compares whole configs."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from mmkdlayer.engine import agreement
from mmkdlayer.engine.agreement import compare_over_ranks
from mmkdlayer.errors import ConfigError


def test_item_rank_and_values_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [('a', dict(size=1, same=2)), ('b', dict(size=3, same=2, more=4))]
    monkeypatch.setattr(agreement.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(agreement.dist, 'all_gather_object', lambda own: given)
    words = (
        r'size is 1 on rank 0 and 3 on rank 1 \(b\); more is not there on rank 0 and 4 on rank 1'
    )
    with pytest.raises(ConfigError, match=words):
        compare_over_ranks({})


def test_a_process_alone_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = Mock()
    monkeypatch.setattr(agreement.dist, 'all_gather_object', gather)
    compare_over_ranks(dict(a=1))
    gather.assert_not_called()
