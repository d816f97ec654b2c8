"""The tutorial's cells run, one after the other, in a fresh interpreter without a network."""

from __future__ import annotations

import json
import re

import pytest
from pages import ROOT

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

NOTEBOOK = json.loads((ROOT / 'docs' / 'tutorials' / 'digits.ipynb').read_text())
CELLS = [cell for cell in NOTEBOOK['cells'] if cell['cell_type'] == 'code']


def test_outputs_are_stripped() -> None:
    assert all(not cell['outputs'] and cell['execution_count'] is None for cell in CELLS)


@pytest.mark.parametrize('epochs', [1, pytest.param(40, marks=pytest.mark.slow)])
def test_it_runs(epochs: int, run_script, monkeypatch) -> None:
    monkeypatch.setenv('TMPDIR', '.')  # the tutorial's folder goes into the test's
    code = '\n'.join(''.join(cell['source']) for cell in CELLS)
    code = code.replace('EPOCHS = 40', f'EPOCHS = {epochs}').replace(
        'Path.cwd()', 'Path(REPOSITORY)'
    )
    printed = run_script(f'REPOSITORY = {str(ROOT)!r}\n{code}')
    accuracy = re.findall(r'^(\w.*?) +(\d+\.\d+) %$', printed, re.MULTILINE)
    found = {name: float(top1) for name, top1 in accuracy}
    assert list(found) == ['teacher', 'student alone', 'student with KD layers']
    exported = re.search(r'^(\d+\.\d+) % of 1397 digits are right$', printed, re.MULTILINE)
    assert exported and float(exported[1]) == pytest.approx(
        found['student with KD layers'], abs=0.2
    )
    if epochs == 40:
        assert min(found.values()) > 80
