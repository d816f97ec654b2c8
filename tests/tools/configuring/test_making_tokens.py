"""Configs for networks of tokens: what is written, what is explained, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from families.small_networks import FAMILIES
from mmengine.config import Config

from configuring import Pair, PairOptions, make_config
from mmkdlayer.errors import ConfigError


def make(folder: Path, tmp_path: Path, teacher: str, student: str, **changes: object) -> Pair:
    files = []
    for role, name in (('teacher', teacher), ('student', student)):
        file = tmp_path / f'{role}.py'
        model = {**FAMILIES[name][1], **changes.pop(f'of_{role}', {})}
        file.write_text(f'model = {model!r}\n')
        files.append(str(file))
    options = dict(data=str(folder), image_size=FAMILIES[student][0], num_subclasses=2)
    return make_config(PairOptions(*files, out=str(tmp_path / 'pair.py'), **options, **changes))


def test_a_class_token_is_explained(folder: Path, tmp_path: Path) -> None:
    pair = make(folder, tmp_path, 'VisionTransformer, pooled', 'VisionTransformer')
    text = Path(pair.options.out).read_text()
    (reason,) = pair.reasons
    for words in (
        'penult, student',
        'class token',
        'backbone.layers.3',
        'backbone.layers.2 is the',
    ):
        assert words in reason
    assert '# penult, student: its logits come from a class token' in text
    layers = Config.fromfile(pair.options.out).model.distiller.kd_layers
    assert (layers.penult.module, layers.penult.teacher) == ('backbone.layers.2', 'backbone.ln1')
    # the networks tell the layout of their tokens
    assert not {'extra_tokens', 'grid', 'teacher_extra_tokens'} & {*layers.inter, *layers.penult}


def test_extra_tokens_are_written_where_the_network_does_not_tell(
    folder: Path, tmp_path: Path
) -> None:
    pair = make(folder, tmp_path, 'XCiT', 'XCiT')
    inter, penult = Config.fromfile(pair.options.out).model.distiller.kd_layers.values()
    assert (inter.extra_tokens, inter.teacher_extra_tokens) == (0, 0)
    assert 'extra_tokens' not in penult


def test_letkd1_of_a_transformer_that_returns_a_map(folder: Path, tmp_path: Path) -> None:
    name = 'VisionTransformer, map'
    pair = make(folder, tmp_path, name, name, letkd1=True)
    (layer,) = pair.kd_layers.values()
    assert (layer['module'], layer['output_index'], layer['in_channels']) == ('backbone', 0, 24)
    assert pair.reasons == []


def test_a_network_that_calculates_its_own_gradients(folder: Path, tmp_path: Path) -> None:
    name = 'RevVisionTransformer'
    backbone = dict(FAMILIES[name][1]['backbone'], no_custom_backward=False)
    with pytest.raises(ConfigError, match='no_custom_backward=True'):
        make(folder, tmp_path, name, name, of_student=dict(backbone=backbone))
    assert not (tmp_path / 'pair.py').exists()


def test_a_teacher_needs_no_head_and_a_student_does(folder: Path, tmp_path: Path) -> None:
    name = 'VisionTransformer'
    pair = make(folder, tmp_path, name, name, of_teacher=dict(head=None))
    assert [layer['teacher'] for layer in pair.kd_layers.values()] == [
        'backbone.layers.1',
        'backbone.layers.2',
    ]
    (tmp_path / 'pair.py').unlink()
    with pytest.raises(ConfigError, match='has no head, so it gives no logits'):
        make(folder, tmp_path, name, name, of_student=dict(head=None))
