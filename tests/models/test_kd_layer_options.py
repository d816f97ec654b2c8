"""One declaration of a KD layer, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import CentroidDecision, KDLayerConnector
from mmkdlayer.models.kd_layer_options import (
    KDLayerOptions,
    parse_kd_layers,
    standalone_kd_layers,
)

CENTROIDS = dict(type='mmkdlayer.CentroidDecision', num_centroids=7)
SUBCLASSES = dict(type='mmkdlayer.SubclassDecision', num_classes=3, num_subclasses=2)


def parse(with_teacher: bool = True, **layer: Any) -> KDLayerOptions:
    return parse_kd_layers(dict(one=layer), 'Owner', with_teacher)['one']


@pytest.mark.parametrize(('decision', 'templates'), [(CENTROIDS, 7), (SUBCLASSES, 6)])
def test_the_number_of_templates_follows_from_the_decision(decision, templates):
    options = parse(module='a.b', in_channels=4, teacher='c', decision=decision)
    assert options.num_templates == options.decision.num_templates == templates
    assert (options.module, options.in_channels, options.teacher) == ('a.b', 4, 'c')
    assert (options.alpha, options.loss_weight, options.output_index) == (None, 1.0, None)


def test_a_decision_that_is_built_already():
    decision = CentroidDecision.from_tables(torch.randn(5, 2))
    options = parse(module='a', in_channels=4, teacher='c', decision=decision)
    assert options.decision is decision and options.num_templates == 5


def test_the_layer_that_is_declared():
    layer = parse(module='a', in_channels=4, num_templates=6).build_layer()
    assert type(layer) is KDLayerConnector
    assert (layer.in_channels, layer.num_templates, layer.alpha) == (4, 6, 1.0)
    layer = parse(
        module='a',
        in_channels=4,
        num_templates=6,
        alpha=0,
        layer=dict(template_scale=2.0, implementation='reference'),
    ).build_layer()
    assert (layer.alpha, layer.templates.scale.item(), layer.implementation) == (
        0.0,
        2.0,
        'reference',
    )
    layer = parse(
        module='a', in_channels=4, num_templates=6, layer=dict(type='mmkdlayer.FoldedKDLayer')
    ).build_layer()
    assert type(layer).__name__ == 'FoldedKDLayer'


def test_none_is_as_if_it_were_not_stated():
    options = parse(module='a', in_channels=4, num_templates=6, decision=None, alpha=None)
    assert options == KDLayerOptions(module='a', in_channels=4, num_templates=6)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(in_channels=None), r'Owner: kd_layers\.one lacks "in_channels": expected a positive'),
        (dict(in_channels=0), 'in_channels must be a positive integer, but got 0'),
        (dict(in_channels=True), 'in_channels must be a positive integer, but got True'),
        (dict(num_templates=None), 'lacks "num_templates", which a layer without a decision must'),
        (dict(num_templates=2.5), 'num_templates must be a positive integer, but got 2.5'),
        (dict(alpha='1'), "alpha must be a number, but got '1'"),
        (dict(layer='reference'), 'layer must be a dict of further arguments'),
        (dict(decision=CENTROIDS), 'has "decision" but no "teacher"'),
        (dict(teacher='c'), 'has "teacher" but no "decision"'),
        (dict(teacher='c', decision=CENTROIDS), 'Take num_templates out'),
        (dict(teacher='c', decision='centroids'), 'decision must be a dict such as'),
        (dict(modul='b'), 'unknown key "modul". Did you mean "module"'),
        (dict(xyz=1), r'unknown key "xyz"\. The keys are module, in_channels'),
        (dict(type='some.Layer'), r"argument of the layer: write layer=dict\(type='some\.Layer'\)"),
        (dict(loss_weight=2.0), 'has "loss_weight" but no "decision"'),
        (dict(teacher_index=0), 'has "teacher_index" but no "decision"'),
        (dict(layer=dict(alpha=0.5)), r"layer has \['alpha'\].*write Owner: kd_layers\.one\.alpha"),
        (dict(alpha=float('nan')), 'alpha must be a number, but got nan'),
    ],
)
def test_declarations_that_are_wrong(change, message):
    layer = dict(dict(module='a', in_channels=4, num_templates=6), **change)
    with pytest.raises(ConfigError, match=message):
        parse(**layer)


@pytest.mark.parametrize('key', ['teacher', 'teacher_index', 'decision', 'loss_weight'])
def test_a_student_alone_has_no_teacher(key):
    layer = dict(module='a', in_channels=4, num_templates=6)
    layer[key] = {'teacher': 'c', 'teacher_index': 0, 'decision': CENTROIDS}.get(key, 1.0)
    with pytest.raises(ConfigError, match=f'has "{key}", but there is no teacher here'):
        parse(with_teacher=False, **layer)


@pytest.mark.parametrize('name', ['a.b', '1', '', 'keys', 'train'])
def test_names_that_no_module_can_have(name):
    with pytest.raises(ConfigError, match='must have an identifier as its name'):
        parse_kd_layers({name: dict(module='a', in_channels=4, num_templates=6)}, 'Owner')


def test_the_form_of_a_student_alone():
    given = dict(
        one=dict(
            module='a',
            in_channels=4,
            alpha=0.5,
            layer=dict(template_scale=2.0),
            teacher='c',
            teacher_index=1,
            loss_weight=2.0,
            decision=dict(CENTROIDS, file='nowhere.safetensors'),
        ),
        two=dict(module='b', in_channels=4, output_index=1, num_templates=3),
    )
    standalone = standalone_kd_layers(given)
    assert standalone == dict(
        one=dict(
            module='a', in_channels=4, alpha=0.5, layer=dict(template_scale=2.0), num_templates=7
        ),
        two=given['two'],
    )
    assert parse_kd_layers(standalone, 'Owner', with_teacher=False)['one'].num_templates == 7


def test_what_is_no_dict_of_layers():
    with pytest.raises(ConfigError, match='kd_layers must be a dict of layers by name'):
        parse_kd_layers([dict(module='a')], 'Owner')


@pytest.mark.parametrize(
    ('decision', 'message'),
    [
        (dict(CENTROIDS, type='mmkdlayer.CentroidDecison'), 'builds no decision.*CentroidDecison'),
        (dict(CENTROIDS, num_centroid=3), 'builds no decision.*num_centroid'),
        (dict(type='mmkdlayer.SubclassDecision'), 'builds no decision.*num_classes'),
        (dict(CENTROIDS, num_centroids=3.5), 'num_centroids must be a positive integer'),
        (dict(SUBCLASSES, num_classes='3'), 'num_classes must be an integer'),
    ],
)
def test_decisions_that_can_not_be_built(decision, message):
    with pytest.raises(ConfigError, match=message):
        parse(module='a', in_channels=4, teacher='c', decision=decision)


def test_arguments_that_the_layer_does_not_have():
    options = parse(module='a', in_channels=4, num_templates=6, layer=dict(template_scal=3))
    with pytest.raises(ConfigError, match='after "a".*template_scal'):
        options.build_layer()


@pytest.mark.parametrize(
    ('layer', 'option'),
    [
        (dict(decision=dict(CENTROIDS, num_centroids=10**9), teacher='c'), 'num_centroids'),
        (dict(decision=dict(SUBCLASSES, num_subclasses=10**9), teacher='c'), 'num_subclasses'),
        (dict(num_templates=10**9), 'num_templates'),
    ],
)
def test_a_layer_that_is_too_large_is_refused_before_it_is_built(layer, option):
    with pytest.raises(ConfigError, match=f'K=[13]0+ templates of 512 channels.*GiB.*{option}'):
        parse(module='a', in_channels=512, **layer).build_layer()
