"""How fitting reports its progress: by anything that is called like ``tqdm.tqdm``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import Any, Callable, Optional

from tqdm import tqdm

#: Called as ``progress(desc=..., total=...)`` (total None: not known) at the start of each stage;
#: returns its bar, which has ``update(n)`` and ``close()``.
Progress = Callable[..., Any]

_PROGRESS: ContextVar[Optional[Progress]] = ContextVar('progress', default=None)


@contextmanager
def shown_by(progress: Optional[Progress]) -> Iterator[None]:
    """All stages inside are shown by ``progress``; None is silent."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


def stage(desc: str, total: Optional[int]) -> closing[Any]:
    """A context with the bar of one stage, closed at its end."""
    progress = _PROGRESS.get()
    return closing(progress(desc=desc, total=total) if progress else tqdm(disable=True))
