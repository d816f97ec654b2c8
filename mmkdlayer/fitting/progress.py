"""How fitting reports its progress: anything that is called like ``tqdm.tqdm``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Protocol


class ProgressBar(Protocol):
    """What is drawn while one stage of the fitting runs."""

    def update(self, n: int = 1) -> object:
        """Say that ``n`` more steps are done."""

    def close(self) -> object:
        """Say that the stage is over."""


class Progress(Protocol):
    """Makes the bar of one stage; ``tqdm.tqdm`` is one."""

    def __call__(self, *, desc: str, total: Optional[int]) -> ProgressBar:
        """Start a stage of ``total`` steps (None: not known)."""


class _Silent:
    def update(self, n: int = 1) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def stage(progress: Optional[Progress], desc: str, total: Optional[int]) -> Iterator[ProgressBar]:
    """The bar of one stage, closed at its end; a silent one where there is no ``progress``."""
    bar: ProgressBar = _Silent() if progress is None else progress(desc=desc, total=total)
    try:
        yield bar
    finally:
        bar.close()
