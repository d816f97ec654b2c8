"""Charts as plain SVG: a kilobyte or two each, in the colours of the page, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 150
LEFT, BOTTOM, TOP, RIGHT = 54, 26, 8, 8


def columns(values: Sequence[float], ends: tuple[str, str], title: str) -> Markup:
    """Columns of these heights side by side, such as a histogram; ``ends`` stand below both sides."""
    top = max([*values, 1e-12])
    step = (WIDTH - LEFT - RIGHT) / max(1, len(values))
    bars = ''.join(
        f'<rect class="bar" x="{LEFT + i * step:.1f}" y="{_y(v, 0, top):.1f}" '
        f'width="{max(0.5, step - 0.6):.1f}" height="{_y(0, 0, top) - _y(v, 0, top):.1f}"/>'
        for i, v in enumerate(values)
        if v
    )
    return _frame(bars, (0, top), ends, title)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], title: str, unit: str) -> Markup:
    """Lines of (x, y), each with a colour of its own and its name in a legend.

    Values that are not finite are left out. ``unit`` is that of x, such as "iteration".
    """
    found = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()
    }
    points = [point for line in found.values() for point in line]
    if not points:
        return Markup('')
    (x0, x1), (y0, y1) = (_range([p[axis] for p in points]) for axis in (0, 1))
    parts, legend = [], []
    for number, (name, line) in enumerate(found.items()):
        places = [(_x(x, x0, x1), _y(y, y0, y1)) for x, y in thin(line)]
        shape = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
        parts.append(f'<polyline class="line c{number % 6}" points="{shape}"/>')
        if len(places) == 1:
            x, y = places[0]
            parts.append(f'<circle class="dot c{number % 6}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        last = f' {_short(line[-1][1])}' if line else ''
        legend.append(f'<li><i class="key c{number % 6}"></i>{escape(name)}{last}</li>')
    ends = (_short(x0), f'{unit} {_short(x1)}')
    chart = _frame(''.join(parts), (y0, y1), ends, title)
    return chart + Markup(f'<ul class="legend">{"".join(legend)}</ul>')


def thin(points: Sequence[tuple[float, float]], most: int = 300) -> list[tuple[float, float]]:
    """At most so many points: means of neighbours."""
    step = math.ceil(len(points) / most) or 1
    groups = [points[i : i + step] for i in range(0, len(points), step)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + 1)  # no count below 0


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _short(value: float) -> str:
    return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def _frame(content: str, values: tuple[float, float], ends: tuple[str, str], title: str) -> Markup:
    low, high = values
    foot = HEIGHT - BOTTOM
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<title>{escape(title)}</title>'
        f'<path class="axis" d="M{LEFT} {TOP}V{foot}H{WIDTH - RIGHT}"/>{content}'
        f'<text x="{LEFT - 5}" y="{TOP + 9}" text-anchor="end">{_short(high)}</text>'
        f'<text x="{LEFT - 5}" y="{foot}" text-anchor="end">{_short(low)}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{escape(ends[0])}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(ends[1])}</text></svg>'
    )
