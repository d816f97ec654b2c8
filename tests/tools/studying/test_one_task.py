"""One task of a study: its notes, and that it ends with the study."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from studying.one_task import ATTEMPTS, PARENT, attempts, die_with_parent, note


def test_a_half_written_line_swallows_no_other(tmp_path: Path) -> None:
    (tmp_path / ATTEMPTS).write_text('{"started": 1}\n{"end')
    note(tmp_path, started=2)
    note(tmp_path, ended=3)
    assert attempts(tmp_path) == [{'started': 1}, {'started': 2}, {'ended': 3}]


@pytest.mark.skipif(sys.platform != 'linux', reason='of Linux alone')
def test_a_task_whose_study_has_ended_does_not_begin() -> None:
    def ends(parent: int) -> bool:
        if (child := os.fork()) == 0:
            os.environ[PARENT] = str(parent)
            try:
                die_with_parent()
            except SystemExit:
                os._exit(75)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 75

    assert not ends(os.getpid())
    assert ends(os.getpid() + 1)
