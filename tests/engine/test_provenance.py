"""What is compared before a stored decision is used again."""

from __future__ import annotations

import torch

from mmkdlayer.engine.provenance import differences, identity_of, teacher_weights
from mmkdlayer.version import installed_versions

FITTED = dict(
    teacher=dict(weights='abc', checkpoint='here.pth', config={}),
    layer=dict(source='layer4'),
    size=[7, 7],
    data=dict(images=3, files='f', transform='t'),
    fitting=dict(seed=0),
    versions=dict(torch='1'),
    date='2026-01-01',
)


def test_same_origin_differs_in_nothing() -> None:
    moved = dict(
        FITTED, teacher=dict(FITTED['teacher'], checkpoint='there.pth'), date='x', versions={}
    )
    assert differences(FITTED, moved) == []


def test_each_part_of_the_origin_is_named_with_both_values() -> None:
    other = dict(
        teacher=dict(weights='xyz'),
        layer=dict(source='layer3'),
        size=[1, 1],
        data={},
        fitting=dict(seed=1),
    )
    phrases = differences(FITTED, other)
    assert [phrase.split(' ')[0] for phrase in phrases] == [
        'teacher',
        'layer',
        'size',
        'data',
        'fitting',
    ]
    assert "'xyz-" in phrases[0]
    assert "'abc-" in phrases[0]
    assert len(differences(FITTED, {})) == 5


def test_versions_of_what_is_installed() -> None:
    assert installed_versions()['torch'].startswith(torch.__version__.split('+')[0])


def test_same_weights_in_another_network_differ() -> None:
    strided = dict(FITTED, teacher=dict(FITTED['teacher'], config=dict(strides=[1])))
    assert len(differences(FITTED, strided)) == 1


def test_the_place_of_the_teacher_does_not_count() -> None:
    def teacher(place: str) -> dict:
        init = dict(type='Pretrained', checkpoint=f'{place}/w.pth')
        return dict(weights='abc', checkpoint=f'{place}/w.pth', config=dict(init_cfg=init))

    ours, theirs = (dict(FITTED, teacher=teacher(place)) for place in ('/here', '/there'))
    assert differences(ours, theirs) == []
    assert identity_of(ours) == identity_of(theirs)


def test_a_description_of_another_form_is_only_different() -> None:
    for odd in ('text', ['list'], 3, None):
        found = dict.fromkeys(FITTED, odd)
        assert len(differences(FITTED, found)) == 5
        assert teacher_weights(found) is None
