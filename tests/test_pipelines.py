"""Pipelines inside the configs of data sets and their wrappers."""

from __future__ import annotations

from mmkdlayer.pipelines import find_pipeline, replace_pipeline

INNER = dict(type='CustomDataset', data_root='r', pipeline=[dict(type='A')])


def test_find_looks_into_wrappers() -> None:
    assert find_pipeline(INNER) == [dict(type='A')]
    assert find_pipeline(dict(type='RepeatDataset', times=2, dataset=INNER)) == [dict(type='A')]
    assert find_pipeline(dict(type='ConcatDataset', datasets=[INNER, INNER])) == [dict(type='A')]
    assert find_pipeline(dict(type='CustomDataset')) is None
    assert find_pipeline(None) is None


def test_replace_changes_every_pipeline_and_nothing_else() -> None:
    wrapped = dict(type='ConcatDataset', datasets=[INNER, dict(INNER, data_root='s')])
    new = replace_pipeline(wrapped, [dict(type='B')])
    assert [d['pipeline'] for d in new['datasets']] == [[dict(type='B')]] * 2
    assert [d['data_root'] for d in new['datasets']] == ['r', 's']
    assert wrapped['datasets'][0]['pipeline'] == [dict(type='A')]
