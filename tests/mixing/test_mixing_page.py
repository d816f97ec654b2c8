"""docs/mixing.md: its examples run, its tables name all that mmrazor and this package register."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import mixing_cases as cases
import pytest
from mix_training import changed_layers, load_offline, train_two_steps

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'mixing.md').read_text()
EXAMPLES = re.findall(r'^### \d\. (.*?)$.*?```python\n(.*?)```', PAGE, re.DOTALL | re.MULTILINE)
LAYERS = [{'inter', 'penult'}, {'penult'}, {'inter', 'penult'}]
LOSSES = [
    {'loss_inter', 'loss_penult', 'loss_dkd', 'loss_pkd'},
    {'loss_penult', 'loss_ofd'},
    {'loss_inter', 'loss_penult'},
]


@pytest.mark.parametrize('index', range(3))
def test_example(index: int, tmp_path: Path) -> None:
    title, code = EXAMPLES[index]
    file = tmp_path / 'example.py'
    file.write_text(code.replace("'../", f"'{ROOT}/configs/"))
    cfg = load_offline(file)
    cfg.model.teacher.pop('checkpoints', None)
    runner, changed = train_two_steps(cfg, 1000, tmp_path)
    assert changed_layers(changed) == LAYERS[index], title
    logged = {key[14:] for key in runner.message_hub.log_scalars if 'train/distill.' in key}
    assert {key for key in logged if not key.endswith(('_raw', '_factor'))} == LOSSES[index]
    if index == 0:
        assert {'loss_dkd_raw', 'loss_dkd_factor', 'loss_pkd_raw', 'loss_pkd_factor'} <= logged


def table_rows(title: str) -> dict[str, str]:
    section = PAGE.split(f'\n## {title}\n')[1].split('\n## ')[0]
    return dict(re.findall(r'^\| `(\w+)` \|(.*)$', section, re.MULTILINE))


def registered(package: str) -> set[str]:
    import mmrazor.models  # noqa: F401
    from mmrazor.registry import MODELS

    return {
        name
        for name, entry in MODELS.module_dict.items()
        if inspect.isclass(entry) and entry.__module__.startswith(package)
    }


def test_every_loss_has_a_row_with_its_inputs() -> None:
    rows, ours = table_rows('Losses'), table_rows('Losses of this package')
    assert set(rows) == registered('mmrazor.models.losses')
    assert set(ours) == cases.OURS
    rows.update(ours)
    for name, entry in cases.MIXED.items():
        inputs = [*entry['keys'], *filter(None, (entry['labels'], entry['samples']))]
        assert [key for key in inputs if f'`{key}`' not in rows[name]] == []
    for name, entry in cases.OF_GENERATORS.items():
        assert f'`{entry["key"]}`' in rows[name]
        assert 'not on real images' in rows[name]


def test_every_distiller_and_algorithm_has_a_row() -> None:
    rows = table_rows('Distillers and algorithms')
    assert set(rows) == registered('mmrazor.models.distillers') | registered(
        'mmrazor.models.algorithms.distill'
    )


def test_files_that_are_named_exist() -> None:
    links = re.findall(r'\]\(((?!http|#)[^)#]+)[^)]*\)', PAGE)
    assert len(links) >= 4
    assert [link for link in links if not (ROOT / 'docs' / link).exists()] == []
