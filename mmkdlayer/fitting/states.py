"""Names of the tensors in a fitter's state, one level inside another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor


def prefixed(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a part, as it is named in the state of the whole."""
    return {f'{name}/{key}': value for key, value in state.items()}


class _Under(Mapping[str, Tensor]):
    """Reads a tensor only when it is asked for: the whole may be a file."""

    def __init__(self, name: str, state: Mapping[str, Tensor]) -> None:
        self._prefix = f'{name}/'
        self._state = state

    def __getitem__(self, key: str) -> Tensor:
        return self._state[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        start = len(self._prefix)
        return (key[start:] for key in self._state if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def under(name: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state of a part out of the state of the whole; empty if the part has none."""
    return _Under(name, state)
