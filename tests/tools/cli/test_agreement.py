"""Ranks that were given other things are told so before they can hang or spoil the result."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable
from unittest.mock import Mock

import pytest
from mmengine.config import Config

from cli import agreement
from cli.agreement import compare_configs, compare_data
from mmkdlayer.engine.agreement import compare_over_ranks
from mmkdlayer.errors import ConfigError


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Calls a comparison as rank 0 would, which gathers what each of some configs gives."""

    def call(*configs: dict) -> None:
        facts: list[tuple[str, dict]] = []
        monkeypatch.setattr(agreement.dist, 'get_world_size', lambda: len(configs))
        gather: Any = lambda own: facts.append(own) or [own] * len(configs)  # noqa: E731
        monkeypatch.setattr(agreement.dist, 'all_gather_object', gather)
        for config in configs:
            compare_configs(Config(config))
        given = [fact for fact in facts if isinstance(fact[1], dict)]
        assert len(given) == len(configs)
        monkeypatch.setattr(agreement.dist, 'all_gather_object', lambda own: given)
        compare_over_ranks({})

    return call


def config(**changes: Any) -> dict:
    loader = dict(batch_size=8, num_workers=0, dataset=dict(data_root='.'))
    return dict(train_dataloader=loader, train_cfg=dict(max_epochs=1), work_dir='a', **changes)


def test_the_same_config_in_other_places_passes(ranks: Callable, tmp_path: Path) -> None:
    files = [tmp_path / 'a' / 'teacher.pth', tmp_path / 'b' / 'copy.pth']
    for file in files:
        file.parent.mkdir()
        file.write_bytes(b'weights')
    ours, theirs = (config(model=dict(teacher_ckpt=str(file))) for file in files)
    theirs['train_dataloader'] = dict(
        batch_size=8, num_workers=4, dataset=dict(data_root=str(tmp_path))
    )
    ranks(ours, dict(theirs, work_dir='b', launcher='pytorch'))


def test_what_differs_from_process_to_process_passes(ranks: Callable) -> None:
    class Thing:
        pass

    def some(*names: str) -> dict:
        # The same, as another process shows it: other addresses, another order.
        return config(
            function=lambda: 0, kind=Thing, thing=Thing(), names=dict.fromkeys(names).keys()
        )

    ours, theirs = some('a', 'b'), some('b', 'a')
    for given in (ours, theirs):
        given['names'] = set(given['names'])
    ranks(ours, theirs)
    with pytest.raises(ConfigError, match='names is'):
        ranks(ours, dict(theirs, names={'a'}))


def test_each_item_rank_and_value_is_named(ranks: Callable, tmp_path: Path) -> None:
    files = [tmp_path / 'a.pth', tmp_path / 'b.pth']
    for file in files:
        file.write_text(file.name)
    ours, theirs = (config(model=dict(teacher_ckpt=str(file))) for file in files)
    theirs.update(train_cfg=dict(max_epochs=2), more=1)
    theirs['train_dataloader'] = dict(batch_size=4, dataset=dict(data_root=str(tmp_path / 'none')))
    with pytest.raises(ConfigError) as caught:
        ranks(ours, ours, theirs)
    text = str(caught.value)
    assert 'train_cfg.max_epochs is 1 on rank 0 and 2 on rank 2 (' in text
    assert 'train_dataloader.batch_size is 8 on rank 0 and 4 on rank 2' in text
    assert "data_root is a folder on rank 0 and '" in text
    assert 'model.teacher_ckpt is a file of 5 bytes with SHA-256 ' in text
    assert 'more is not there on rank 0 and 1 on rank 2' in text
    assert 'rank 1' not in text


def test_long_lists_of_differences_are_cut(ranks: Callable) -> None:
    ours, theirs = (config(many=[value] * 20) for value in 'ab')
    with pytest.raises(ConfigError, match=r"many.4 is 'a' on rank 0.* and 15 more\. Start"):
        ranks(ours, theirs)


def test_ranks_with_other_images_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(images: int, first_label: int = 0) -> dict:
        infos = [dict(img_path=f'/data/{i}.jpg', gt_label=i and 1) for i in range(images)]
        infos[0]['gt_label'] = first_label
        kinds = dict(__len__=lambda self: images, get_data_info=lambda self, i: infos[i])
        loader = SimpleNamespace(dataset=type('Images', (), dict(kinds, data_root='/data'))())
        given: list[dict] = []
        monkeypatch.setattr(agreement.dist, 'get_world_size', lambda: 2)
        monkeypatch.setattr(
            agreement.dist, 'all_gather_object', lambda own: given.append(own) or [own]
        )
        compare_data(SimpleNamespace(cfg=dict(train_dataloader=1), train_dataloader=loader))  # type: ignore
        return given[-1]

    for other, words in (
        (facts(25), r'train_dataloader: images is 30 on rank 0 and 25 on rank 1'),
        (facts(30, 1), r'train_dataloader: files is \w+ on rank 0 and \w+ on rank 1'),
    ):
        ours = facts(30)
        monkeypatch.setattr(agreement.dist, 'all_gather_object', lambda own: [ours, other])  # noqa: B023
        with pytest.raises(ConfigError, match=words):
            compare_over_ranks({})


def test_a_process_alone_reads_no_file_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    look = Mock()
    monkeypatch.setattr(agreement, '_config_facts', look)
    compare_configs(Config(config()))
    look.assert_not_called()
