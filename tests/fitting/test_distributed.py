"""Errors of one rank end all of them, as what they are."""

from __future__ import annotations

from typing import Any

import pytest

from mmkdlayer.errors import ConfigError, DataError, SavedStateError
from mmkdlayer.fitting import distributed
from mmkdlayer.fitting.distributed import errors_on_all_ranks


def test_errors_on_this_rank_stay_what_they_are() -> None:
    with errors_on_all_ranks():
        pass
    for kind in (ConfigError, SavedStateError, KeyError):
        with pytest.raises(kind), errors_on_all_ranks():
            raise kind('words')


def test_the_first_error_is_told_where_the_device_is_lost_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(own: Any) -> list[Any]:
        raise RuntimeError('CUDA error: device-side assert triggered')

    monkeypatch.setattr(distributed.dist, 'all_gather_object', lost)
    with pytest.raises(DataError, match='Label 77'), errors_on_all_ranks():
        raise DataError('Label 77 is outside.')
    with pytest.raises(RuntimeError, match='device-side'), errors_on_all_ranks():
        pass


@pytest.mark.parametrize(
    ('error', 'kind'),
    [(ConfigError('words'), DataError), (SavedStateError('words'), SavedStateError)],
)
def test_errors_of_another_rank(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    """As rank 0 sees an error of rank 1, which it learns of by what that one gathers."""
    gathered: list[Any] = []

    def gather(own: Any) -> list[Any]:
        gathered.append(own)
        return gathered[::-1]

    monkeypatch.setattr(distributed.dist, 'all_gather_object', gather)
    with pytest.raises(type(error)), errors_on_all_ranks():
        raise error
    words = f'Stopped on every rank because rank 1 failed: {type(error).__name__}: words'
    with pytest.raises(DataError, match=words) as caught, errors_on_all_ranks():
        pass
    assert type(caught.value) is kind
