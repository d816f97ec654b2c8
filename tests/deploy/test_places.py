"""An exported config holds no place of the machine that it was trained on."""

from __future__ import annotations

import pytest

from mmkdlayer.deploy.places import without_places


@pytest.mark.parametrize(
    ('given', 'kept'),
    [
        (dict(data_root='data/imagenet'), dict(data_root='data/imagenet')),
        (dict(data_root='/home/me/animals/'), dict(data_root='data/animals')),
        (dict(data_root='~/animals'), dict(data_root='data/animals')),
        (dict(data_root='D:\\images\\animals'), dict(data_root='data/animals')),
        (dict(data_root='s3://bucket/a'), dict(data_root='s3://bucket/a')),
        (
            dict(data_root='/d/a', ann_file='/d/a/meta/val.txt', data_prefix='val'),
            dict(data_root='data/a', ann_file='meta/val.txt', data_prefix='val'),
        ),
        (
            dict(data_root='/d/a', ann_file='/lists/val.txt', data_prefix=dict(img_path='/d/a/x')),
            dict(data_root='data/a', ann_file='val.txt', data_prefix=dict(img_path='x')),
        ),
        (  # whatever the keys of the user's own data set
            dict(data_root='/d/a', lists=['/d/a/x.txt', dict(of='/b/y.txt')], step='Resize'),
            dict(data_root='data/a', lists=['x.txt', dict(of='y.txt')], step='Resize'),
        ),
        (
            dict(data_root='', data_prefix='/d/a/val'),
            dict(data_root='data/val', data_prefix=''),
        ),
        (
            dict(pipeline=[dict(type='LoadImageFromFile', backend_args=dict(key='secret'))]),
            dict(pipeline=[dict(type='LoadImageFromFile')]),
        ),
    ],
)
def test_places_of_data_sets(given, kept):
    inside = dict(dataset=dict(type='RepeatDataset', dataset=given))
    before = repr(inside)
    assert without_places(inside) == dict(dataset=dict(type='RepeatDataset', dataset=kept))
    assert repr(inside) == before


def test_classes_from_a_file_are_read(tmp_path):
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    assert without_places(dict(classes=str(tmp_path / 'classes.txt')))['classes'] == ['cat', 'dog']
    with pytest.raises(OSError, match='gone'):
        without_places(dict(classes=str(tmp_path / 'gone.txt')))
