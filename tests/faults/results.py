"""Keeps what came of each trial in a file, and prints the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mmkdlayer.atomic import replacing

from .processes import ROOT
from .trial import Result


class ResultsFile:
    """The results of a seed, by number: written after each trial, so that a long run can go on later.

    Args:
        path: The file.
        seed: Results of another seed, or of other code, are not used.

    Raises:
        SystemExit: The file is of another seed or of other code.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.origin = dict(seed=seed, code=hash_of_code())
        self.results: dict[int, Result] = {}
        if path.exists():
            content = json.loads(path.read_text())
            if content['origin'] != self.origin:
                raise SystemExit(
                    f'{path} has results of another seed or of other code ({content["origin"]}, not '
                    f'{self.origin}). Remove its folder, or choose another one with --out.'
                )
            self.results = {entry['number']: Result(**entry) for entry in content['results']}

    def add(self, result: Result) -> None:
        """Add a result and write the file."""
        self.results[result.number] = result
        entries = [asdict(self.results[number]) for number in sorted(self.results)]
        with replacing(self.path) as partial:
            partial.write_text(json.dumps(dict(origin=self.origin, results=entries), indent=1))


def hash_of_code() -> str:
    """A hash of all that trials depend on in this project."""
    digest = hashlib.sha256()
    for folder in ('mmkdlayer', 'tools', 'tests/faults'):
        for path in sorted((ROOT / folder).rglob('*.py')):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def table(results: Iterable[Result]) -> str:
    """How often each kind was tried, and what came of it, in Markdown."""
    rows: dict[str, list[int]] = {}
    for result in results:
        counts = rows.setdefault(result.kind, [0, 0, 0])
        counts[('survived', 'refused', 'fault').index(result.outcome)] += 1
    rows = dict(sorted(rows.items()))
    rows['all'] = [sum(column) for column in zip(*rows.values())]
    width = max(map(len, ['kind of injection', *rows]))
    lines = [
        f'| {"kind of injection":{width}} | tried | survived | refused | faults |',
        f'|{"-" * (width + 2)}|-------|----------|---------|--------|',
    ]
    for name, (survived, refused, faults) in rows.items():
        tried = survived + refused + faults
        lines.append(f'| {name:{width}} | {tried:5} | {survived:8} | {refused:7} | {faults:6} |')
    return '\n'.join(lines)


def describe(result: Result, seed: int) -> str:
    """A fault: what was done, what happened, and how to do it again."""
    reasons = '\n'.join(f'  {reason}' for reason in result.reasons)
    return (
        f'trial {result.number} ({result.kind}): {result.what}\n{reasons}\n'
        f'  again: python tests/faults/run.py --seed {seed} --only {result.number}'
    )
