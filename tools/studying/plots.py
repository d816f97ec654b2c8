"""The plots of a study's page, as SVG."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from .paired import summarise
from .tables import accuracies, cost_of, mean_time, training_seconds

#: The same numbers give the same file.
STYLE: Any = {'svg.hashsalt': 'mmkdlayer', 'svg.fonttype': 'none', 'font.size': 9}
MARKERS = 'osD^vP*X<>'


def plots(results: Mapping[str, Any], rows: list[str]) -> dict[str, str]:
    """The plots of some rows: name to SVG. Rows without a run that is done are left out."""
    done = [name for name in rows if accuracies(results, name)]
    if not done:
        return {}
    folded = {name: cost_of(results, name)['folded_flops'] / 1e6 for name in done}
    hours = {name: mean_time(results, name, training_seconds) for name in done}
    with matplotlib.rc_context(STYLE):
        return {
            'flops': _scatter(
                results, done, folded, 'FLOPs of one image, KD layers folded (millions)'
            ),
            'time': _scatter(
                results,
                done,
                {name: value / 3600 for name, value in hours.items() if value is not None},
                'time of all training steps (hours)',
            ),
            'curves': _curves(results, done),
        }


def _scatter(
    results: Mapping[str, Any], rows: list[str], places: Mapping[str, float], label: str
) -> str:
    def draw(axes: Any) -> None:
        for index, name in enumerate(rows):
            found = summarise(list(accuracies(results, name).values()))
            if found is None or name not in places:
                continue
            axes.errorbar(
                places[name], found.mean, found.deviation, **_look(results, name, index), capsize=3
            )
        axes.set_xlabel(label)
        axes.set_ylabel(f'{results["metric"]}, mean ± standard deviation')

    return _svg(draw)


def _curves(results: Mapping[str, Any], rows: list[str]) -> str:
    """Accuracy on the validation images and total loss, by epoch, as means over the seeds."""

    def draw(left: Any, right: Any) -> None:
        for axes, curve in ((left, results['metric']), (right, 'loss')):
            for index, name in enumerate(rows):
                values: dict[float, list[float]] = {}
                for run in results['runs']:
                    for epoch, value in run['curves'].get(curve, ()) if run['row'] == name else ():
                        values.setdefault(epoch, []).append(value)
                points = sorted(values)
                look = {**_look(results, name, index), 'markersize': 3}
                look['linestyle'] = ('-', '--', ':')[index // 10 % 3]
                if len(points) > 20:
                    look['marker'] = ''
                axes.plot(points, [statistics.fmean(values[point]) for point in points], **look)
            axes.set_xlabel('epoch')
            axes.set_ylabel('training loss, all parts' if curve == 'loss' else curve)

    return _svg(draw, 2)


def _look(results: Mapping[str, Any], name: str, index: int) -> dict[str, Any]:
    return dict(
        label=results['rows'][name]['label'],
        color=f'C{index % 10}',
        marker=MARKERS[(index + index // 10) % len(MARKERS)],
        linestyle='',
    )


def _svg(draw: Callable[..., None], panels: int = 1) -> str:
    figure = Figure(layout='constrained')
    axes = figure.subplots(1, panels, squeeze=False)[0]
    draw(*axes)
    for one in axes:
        one.grid(alpha=0.3)
        one.spines[['top', 'right']].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.set_size_inches(4.6 * panels + 2.4, max(3.8, 0.5 + 0.22 * len(labels)))
    figure.legend(handles, labels, loc='outside right upper', frameon=False)
    text = io.StringIO()
    figure.savefig(text, format='svg', metadata={'Date': None})
    svg = text.getvalue()
    return svg[svg.index('<svg') :]
