"""Entries of a config that nothing reads."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.config import Config
from torch import nn

from cli import check_unread, unread_warnings
from mmkdlayer.errors import ConfigError


def config(**entries: Any) -> Config:
    return Config(dict(dict(model=dict(type='ImageClassifier')), **entries))


def wrapper(**options: Any) -> dict:
    return dict(optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=options)


def test_kd_layers_at_the_top_level() -> None:
    layers = dict(penult=dict(module='backbone'))
    with pytest.raises(ConfigError, match=r'kd_layers stands at the top level.*model\.distiller'):
        check_unread(config(kd_layers=layers))
    # A variable that the model is made of.
    check_unread(config(kd_layers=layers, model=dict(distiller=dict(kd_layers=layers))))


def test_entries_beside_those_that_are_read() -> None:
    preprocessor = dict(type='ClsDataPreprocessor', mean=[1.0])
    cfg = config(
        model=dict(type='ImageClassifier', data_preprocessor=dict(preprocessor, mean=[2.0])),
        data_preprocessor=preprocessor,
        custom_hook=[],
        train_pipeline=[],
        classes=['a'],
        optim_wrapper=wrapper(
            custom_keys={'weight': dict(lr_mult=2), '.cls_token': dict(lr_mult=2)}
        ),
    )
    network = nn.Linear(1, 1)
    found = sorted(unread_warnings(cfg, network))
    assert found[0] == 'Nothing reads "custom_hook" of the config. Did you mean "custom_hooks"?'
    assert 'model.data_preprocessor is used' in found[1] and '[1.0]' in found[1]
    assert found[2].endswith('custom_keys: no parameter has ".cls_token" in its name.')
    assert len(found) == 3
    cfg.pop('custom_hook')
    cfg.pop('optim_wrapper')
    cfg.model.data_preprocessor = dict(type='ImgDataPreprocessor', mean=(1.0,))  # the same images
    assert not list(unread_warnings(cfg, network))
