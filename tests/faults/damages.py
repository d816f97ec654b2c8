"""Ways to damage a file, before a command reads it or while it runs."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from .injections import Injection, Operations


@dataclass
class Damage(Injection):
    """A file is damaged before the command starts, or before its n-th file operation.

    Args:
        file: The file, below the folder of the job; or a pattern, where it is not there yet.
        how: A name of :data:`WAYS`.
        seed: Of where and what.
        operation: None for before the start.
    """

    file: str
    how: str
    seed: int
    operation: Optional[int] = None

    def __post_init__(self) -> None:
        self.named, self.spoils = Path(self.file).name.lstrip('*'), self.file

    def before(self, folder: Path) -> None:
        path = folder / self.file
        self._kept = folder.with_name(folder.name + '-kept')
        if path.is_file():
            shutil.copy2(path, self._kept)
        if self.operation is None:
            self._damage(folder)

    def _damage(self, folder: Path) -> None:
        rng = random.Random(self.seed)
        files = sorted(p for p in folder.glob(self.file) if p.is_file() and p.stat().st_size)
        if files:
            WAYS[self.how](rng.choice(files), rng)

    def arm(self, folder: Path) -> None:
        def act(number: int, text: str) -> None:
            if number == self.operation:
                self._damage(folder)

        if self.operation is not None:
            Operations(act)

    def after(self, folder: Path) -> None:
        """Put the file back, as a user with a backup would, or remove it."""
        path = folder / self.file
        if '*' in self.file:
            return  # it belongs to a fitting, and nobody would know it
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if self._kept.exists():
            shutil.copy2(self._kept, path)


def _rewrite(change: Callable[[bytes, random.Random], bytes]) -> Callable:
    """Damage in place, as a disk or a careless program would: the file stays the same inode."""

    def damage(path: Path, rng: random.Random) -> None:
        data = change(path.read_bytes(), rng)
        with path.open('r+b') as file:
            file.write(data)
            file.truncate()

    return damage


def _flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _overwrite(data: bytes, rng: random.Random, new: Callable[[int], bytes]) -> bytes:
    start = rng.randrange(len(data))
    piece = new(min(4096, len(data) - start))
    return data[:start] + piece + data[start + len(piece) :]


def _become_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _become_dangling(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.with_name('nowhere'))


def _become_sibling(path: Path, rng: random.Random) -> None:
    others = [
        p for p in path.parent.iterdir() if p.suffix == path.suffix and p != path and p.is_file()
    ]
    if others:
        path.write_bytes(rng.choice(sorted(others)).read_bytes())


#: Ways to damage a file.
WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    'truncated': _rewrite(lambda data, rng: data[: rng.randrange(len(data))]),
    'emptied': _rewrite(lambda data, rng: b''),
    'bit flipped': _rewrite(_flip),
    'page of zeros': _rewrite(lambda data, rng: _overwrite(data, rng, bytes)),
    'page of noise': _rewrite(lambda data, rng: _overwrite(data, rng, rng.randbytes)),
    'all noise': _rewrite(lambda data, rng: rng.randbytes(len(data))),
    'web page': _rewrite(lambda data, rng: b'<!DOCTYPE html><html>404</html>\n'),
    'longer': _rewrite(lambda data, rng: data + rng.randbytes(100)),
    'of a sibling': _become_sibling,
    'a folder': _become_folder,
    'dangling link': _become_dangling,
    'removed': lambda path, rng: path.unlink(),
}
