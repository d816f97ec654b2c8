"""What the README shows is there and works."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()


def test_files_that_are_named_exist() -> None:
    named = re.findall(r'(?<![\w/])(?:tools|configs)/[\w/]+\.(?:py|sh)', README)
    named += re.findall(r'\]\(((?!http)[^)]+)\)', README)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_first_two_commands() -> None:
    commands = re.findall(r'^bash (\S+)', README, flags=re.MULTILINE)
    assert commands[:2] == ['tools/quickstart.sh', 'tools/run_tests.sh']


def test_mixing_example_is_a_config_whose_losses_all_get_their_inputs(tmp_path: Path) -> None:
    example = next(
        b for b in re.findall(r'```python\n(.*?)```', README, re.DOTALL) if '_base_' in b
    )
    base = ROOT / 'configs' / 'kdlayer' / 'resnet34_resnet18_in1k.py'
    file = tmp_path / 'mixed.py'
    file.write_text(example.replace("'./resnet34_resnet18_in1k.py'", repr(str(base))))
    distiller = Config.fromfile(file).model.distiller
    assert set(distiller.distill_losses) == {'loss_inter', 'loss_penult', 'loss_kl'}
    for name, loss in distiller.loss_forward_mappings.items():
        assert name in distiller.distill_losses
        for entry in loss.values():
            recorders = (
                distiller.student_recorders if entry.from_student else distiller.teacher_recorders
            )
            assert entry.recorder in recorders
