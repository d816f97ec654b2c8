"""What decides the views of a data set: the same for the same, and what differs has a name."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from mmengine.dataset import BaseDataset

from mmkdlayer.stored.facts import (
    describe_drawing,
    drawing_differences,
    version_differences,
)


class Numbers(BaseDataset):
    METAINFO = dict(classes=('odd', 'even'))

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=f'/data/{i}.png', gt_label=int(i > 0)) for i in range(6)]

    def get_cat_ids(self, idx: int) -> list[int]:
        return [self.get_data_info(idx)['gt_label']]


STEPS = [dict(type='LoadImageFromFile'), dict(type='mmpretrain.RandomFlip', prob=0.5)]
CONFIG: dict[str, Any] = dict(type='RepeatDataset', times=2, dataset=dict(pipeline=STEPS))


@pytest.fixture
def facts() -> dict[str, Any]:
    return describe_drawing(Numbers(pipeline=[]), CONFIG)


def test_they_are_plain_json_and_do_not_depend_on_how_a_type_is_named(facts: dict) -> None:
    assert json.loads(json.dumps(facts)) == facts
    assert facts['classes'] == ['odd', 'even'] and facts['data']['images'] == 6
    other = copy.deepcopy(CONFIG)
    other['dataset']['pipeline'][1]['type'] = 'RandomFlip'
    assert describe_drawing(Numbers(pipeline=[]), other) == facts
    assert drawing_differences(facts, facts) == [] and {'torch', 'numpy'} <= set(facts['versions'])


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda f: f['data'].update(images=7, files='x'), 'there were 6 images and are 7'),
        (lambda f: f['data'].update(files='x'), 'their order or their labels'),
        (lambda f: f['data'].update(content='x'), 'another content'),
        (lambda f: f['classes'].reverse(), 'class 0 was odd and is even'),
        (lambda f: f.update(classes=['odd']), 'there were 2 classes and are 1'),
        (
            lambda f: f['pipeline'][0][1].update(prob=0.4),
            "step 1 of the pipeline was .*'prob': 0.5",
        ),
        (lambda f: f['pipeline'][0].pop(), 'there were 2 steps in the pipeline and are 1'),
    ],
)
def test_each_difference_is_one_phrase(facts: dict, change: Any, words: str) -> None:
    now = copy.deepcopy(facts)
    change(now)
    (phrase,) = drawing_differences(facts, now)
    assert re.search(words, phrase)


def test_other_versions_are_named(facts: dict) -> None:
    now = copy.deepcopy(facts)
    now['versions'].update(numpy='0.1')
    del now['versions']['torch']
    assert drawing_differences(facts, now) == []
    found = version_differences(facts, now)
    assert [phrase.split(' was ')[0] for phrase in sorted(found)] == ['numpy', 'torch']
    assert 'is 0.1' in sorted(found)[0] and 'is not there' in sorted(found)[1]
