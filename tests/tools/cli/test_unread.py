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


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        (
            dict(env_cfg=dict(cudnn_bench=True)),
            'env_cfg: nothing reads "cudnn_bench".*cudnn_benchm',
        ),
        (
            dict(optim_wrapper=wrapper(norm_decay=0)),
            r'optim_wrapper\.paramwise_cfg: nothing reads "norm_decay".*norm_decay_mult',
        ),
        (
            dict(optim_wrapper=wrapper(custom_keys=dict(fc=dict(lr_mul=0)))),
            r'custom_keys\["fc"\]: nothing reads "lr_mul".*lr_mult',
        ),
        (
            dict(optim_wrapper=dict(architecture=wrapper(lr_mult=0), generator=wrapper())),
            r'optim_wrapper\.architecture\.paramwise_cfg: nothing reads "lr_mult"',
        ),
        (  # another constructor reads others
            dict(
                optim_wrapper=dict(
                    wrapper(bias_lr_mult=0),
                    constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
                )
            ),
            'nothing reads "bias_lr_mult"',
        ),
    ],
)
def test_options_that_a_host_does_not_know(entries: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_unread(config(**entries))


def test_options_that_a_host_knows() -> None:
    check_unread(config())
    check_unread(config(env_cfg=dict(cudnn_benchmark=True, keep_memory=False, dist_cfg={})))
    keys = dict(fc=dict(lr_mult=0, decay_mult=0))
    check_unread(config(optim_wrapper=wrapper(norm_decay_mult=0, custom_keys=keys)))
    decaying = dict(
        wrapper(layer_decay_rate=0.5),
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
    )
    check_unread(config(optim_wrapper=decaying))


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
