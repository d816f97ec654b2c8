"""A task of a study: what its process gets, and what it leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.plain_json import parse_json

from .one_task import ATTEMPTS, FAILED, RESULT

#: File in the folder of a task that says what it is.
TASK = 'task.json'


@dataclass(frozen=True)
class Task:
    """One process of a study, and what it leaves in its folder."""

    name: str  #: its folder below that of the study
    kind: str  #: ``'train'``, ``'fit'`` or ``'store'``
    command: tuple[str, ...]  #: tool and arguments; ``{out}`` stands for the study's folder
    config: str = ''  #: the config, as the command gets it
    #: The words behind it that describe the config, for exporting what was trained.
    options: tuple[str, ...] = ()
    identity: str = ''  #: hash of all that its result depends on, but for other tasks
    #: What else its result depends on, by hashes: ``teacher`` and ``weights`` that it begins with.
    used: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  #: names of the tasks whose results it uses
    length: int = 0  #: epochs of a training; iterations where it has no epochs
    row: str = ''  #: row or teacher
    seed: int = 0  #: of a training
    #: Where the test images are, if the config says it by a whole path.
    test_root: str | None = None
    #: False to remove what training has saved as soon as the student is exported.
    keep_checkpoints: bool = True
    #: Export the network as it is, so that it can teach: nothing folded or merged.
    plain: bool = False

    def folder(self, out: Path) -> Path:
        """Where it works."""
        return out / self.name

    def write(self, out: Path) -> None:
        """Write it into its folder."""
        with replacing(self.folder(out) / TASK) as file:
            file.write_text(json.dumps(asdict(self), indent=1))

    def result(self, out: Path) -> dict[str, Any] | None:
        """Its result; None before it has one.

        Raises:
            DataError: It can't be read, or is that of other settings.
        """
        path = self.folder(out) / RESULT
        if not path.exists():
            return None
        result = read_object(path)
        if self.differs(result):
            raise DataError(
                f'{path} has the result of another config, seed, option or teacher than the study has '
                f'now, as of a job that was waiting while the study was changed. Remove {path.parent}.'
            )
        return result

    def failure(self, out: Path) -> str | None:
        """Why it has failed; None where no reason was left."""
        path = self.folder(out) / FAILED
        if not path.exists():
            return None
        try:
            return str(read_object(path).get('reason'))
        except DataError as error:
            return str(error)

    def differs(self, begun: Mapping[str, Any]) -> bool:
        """Whether what was begun or has ended was another task, by what it has recorded.

        Tasks of earlier versions have not recorded what they used; that is not compared then.
        """
        used = begun.get('used') or {}
        return begun.get('identity', self.identity) != self.identity or any(
            self.used.get(name) != mark for name, mark in used.items()
        )


def check_begun(tasks: list[Task], out: Path) -> None:
    """Raise a ConfigError that names what was begun with other settings, and all that has used it."""
    changed: list[str] = []
    for task in tasks:  # what a task needs stands before it
        folder = task.folder(out)
        if not (folder / ATTEMPTS).exists():
            continue
        noted = [folder / name for name in (TASK, RESULT) if (folder / name).exists()]
        if any(task.differs(read_object(path)) for path in noted) or {*changed} & {*task.needs}:
            changed.append(task.name)
    if changed:
        raise ConfigError(
            f'{out} has runs that were begun with another config, seed, option, teacher or initial '
            f'weights than the study has now, or that use such a run: {", ".join(changed)}. Choose '
            'another --out, or remove their folders.'
        )


def read_object(path: Path) -> dict[str, Any]:
    """What a JSON file of a study's folder holds.

    Raises:
        DataError: It can't be read, or holds something else than an object.
    """
    try:
        content = parse_json(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DataError(f'{path} is damaged ({error}). Remove it, and start again.') from error
    if not isinstance(content, dict):
        raise DataError(f'{path} is damaged: it holds no object. Remove it, and start again.')
    return content
