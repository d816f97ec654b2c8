"""What a benchmark has found so far, in a JSON file: it goes on where it was ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from mmkdlayer.atomic import replacing


class Records:
    """Figures of each case, or its error; the file is replaced as a whole after each change.

    Attributes:
        where: What the figures depend on, such as the card.
        runs: The commands that measured them, with date and versions.
        cases: By name, in the order in which they were done.
        running: The case that is under way.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where: dict[str, str] = {}
        self.runs: list[str] = []
        self.cases: dict[str, dict[str, Any]] = {}
        self.running: Optional[str] = None
        if path.exists():
            self.read()

    def read(self) -> None:
        """Read the file again, which another process may have replaced."""
        found = json.loads(self.path.read_text())
        self.where, self.runs = found['where'], found['runs']
        self.cases, self.running = found['cases'], found['running']

    def write(self) -> None:
        """Write the file, whole or not at all."""
        content = dict(where=self.where, runs=self.runs, running=self.running, cases=self.cases)
        with replacing(self.path) as file:
            file.write_text(json.dumps(content, indent=1))

    def tell(self, **where: str) -> None:
        """Say what the figures depend on.

        Raises:
            SystemExit: The figures that are there are from elsewhere.
        """
        for key, value in where.items():
            if self.where.get(key, value) != value:
                raise SystemExit(
                    f'{self.path} was measured with {key} {self.where[key]}, and this is {value}: '
                    'choose another --out.'
                )
        self.where.update(where)
        self.write()

    def ran(self, command: str) -> None:
        """Note the command, once."""
        if command not in self.runs:
            self.runs.append(command)
            self.write()

    def begin(self, name: Optional[str]) -> None:
        """Say that a case is running, or none."""
        self.running = name
        self.write()

    def end(self, name: str, **figures: Any) -> None:
        """Note what a case has given: figures, or ``error``."""
        self.running = None
        self.cases[name] = figures
        self.write()
