"""How fitting reports its progress: by anything that is called like ``tqdm.tqdm``."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Callable, Optional

from tqdm import tqdm

#: Called as ``progress(desc=..., total=...)`` (total None: not known) at the start of each stage;
#: returns its bar, which has ``update(n)`` and ``close()``.
Progress = Callable[..., Any]


def stage(progress: Optional[Progress], desc: str, total: Optional[int]) -> closing[Any]:
    """A context with the bar of one stage, closed at its end; None is silent."""
    bar = progress(desc=desc, total=total) if progress is not None else tqdm(disable=True)
    return closing(bar)
