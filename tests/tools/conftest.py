"""Images for the commands, a way to run a command in this process, and a training that was run."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_fixtures import images, main  # noqa: F401
from command_line import CONFIG, arguments, run


@pytest.fixture(scope='session')
def earlier(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The work dir of a training of one epoch; not to be changed."""
    work = tmp_path_factory.mktemp('earlier')
    run('train.py', arguments(CONFIG, '--work-dir', work, data=images))
    return work
