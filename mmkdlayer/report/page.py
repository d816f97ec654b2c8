"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmkdlayer.atomic import replacing
from mmkdlayer.version import __version__

FOLDER = Path(__file__).parent / 'template'


def write(folder: str | os.PathLike, template: str, view: Mapping[str, Any]) -> Path:
    """Write ``index.html`` into a folder: all of it, or nothing. The arguments are those of render."""
    known = dict(version=__version__, date=datetime.date.today().isoformat())
    path = Path(folder, 'index.html')
    with replacing(path) as partial:
        partial.write_text(render(template, {**known, **view}), encoding='utf-8')
    return path


def render(template: str, view: Mapping[str, Any]) -> str:
    """A page of this package's templates; all that a view holds is escaped, but for charts."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number)
    script = (FOLDER / 'script.js').read_text(encoding='utf-8')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        view,
        style=Markup((FOLDER / 'style.css').read_text(encoding='utf-8')),
        script=Markup(script),
        script_hash=f'sha256-{digest}',
    )


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return '–' if value is None else f'{100 * value:.{digits}f} %'


def number(value: Any, digits: int = 4) -> str:
    """A number with so many significant digits; whole ones in full."""
    if value is None:
        return '–'
    value = float(value)  # numpy's numbers too
    return f'{value:,.0f}' if value.is_integer() else f'{value:.{digits}g}'
