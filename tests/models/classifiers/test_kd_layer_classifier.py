"""The standalone student: built from a config, with a distilled student's weights, without mmrazor."""

from __future__ import annotations

import copy
from typing import Callable

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmkdlayer.errors import ConfigError
from mmkdlayer.models import KDLayerClassifier, KDLayerConnector


@pytest.fixture
def config(classifier_config, kd_layer_configs) -> dict:
    return classifier_config(type='mmkdlayer.KDLayerClassifier', kd_layers=kd_layer_configs())


def test_it_is_built_from_a_config(config):
    before = copy.deepcopy(config)
    model = MODELS.build(config)
    assert config == before
    assert type(model) is KDLayerClassifier
    inter, penult = model.kd_layers['inter'], model.kd_layers['penult']
    assert type(inter) is type(penult) is KDLayerConnector
    assert (inter.num_templates, inter.alpha) == (6, 1.0)
    assert (penult.num_templates, penult.alpha) == (5, 0.5)
    keys = [key for key in model.state_dict() if key.endswith('templates.weight')]
    assert keys == ['kd_layers.inter.templates.weight', 'kd_layers.penult.templates.weight']


def test_the_layers_change_the_logits_and_learn(config, make_batch):
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    model.eval()
    inputs, samples = make_batch()
    x = inputs
    backbone = model.backbone
    x = backbone.layer2(backbone.layer1(backbone.relu(backbone.norm1(backbone.conv1(x)))))
    block = backbone.layer3._modules['0']
    x = model.kd_layers['inter'](type(block).forward(block, x))
    x = model.kd_layers['penult'](backbone.layer3[1](x))
    expected = model.head((x.mean((2, 3)),))
    torch.testing.assert_close(model(inputs), expected)
    model.train()(inputs, samples, mode='loss')['loss'].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_all_modes_of_a_classifier(config, make_batch):
    model = MODELS.build(config).eval()
    inputs, samples = make_batch()
    predictions = model(inputs, samples, mode='predict')
    scores = torch.stack([prediction.pred_score for prediction in predictions])
    torch.testing.assert_close(scores, model(inputs).softmax(1))
    assert model.extract_feat(inputs, stage='neck')[0].shape == (4, 16)


def test_without_kd_layers_it_is_mmpretrain_s_classifier(classifier_config, make_batch):
    plain = MODELS.build(classifier_config()).eval()
    model = MODELS.build(classifier_config(type='mmkdlayer.KDLayerClassifier')).eval()
    model.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(model(make_batch()[0]), plain(make_batch()[0]))


def test_the_weights_of_a_distilled_student_give_its_logits(config, make_distillation, make_batch):
    distilled, (inputs, samples) = make_distillation(), make_batch()
    optimizer = torch.optim.SGD([p for p in distilled.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        losses = distilled(inputs, samples, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
    prefix = 'architecture.'
    state = {k[len(prefix) :]: v for k, v in distilled.state_dict().items() if k.startswith(prefix)}
    model = MODELS.build(config)
    model.load_state_dict(state, strict=True)
    distilled.student.eval()
    torch.testing.assert_close(model.eval()(inputs), distilled.student(inputs), atol=1e-5, rtol=0)


def test_an_output_of_a_backbone_that_returns_several(classifier_config, make_batch):
    config = classifier_config(type='mmkdlayer.KDLayerClassifier')
    config['backbone']['out_indices'] = (1, 2)
    layer = dict(module='backbone', output_index=-1, in_channels=16, num_templates=5)
    model = MODELS.build(dict(config, kd_layers=dict(penult=layer))).eval()
    inputs, _ = make_batch()
    first, last = model.backbone(inputs)
    assert first.shape == (4, 8, 8, 8)
    bare = MODELS.build(config).eval()
    bare.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith('kd_layers')}
    )
    torch.testing.assert_close(last, model.kd_layers['penult'](bare.backbone(inputs)[-1]))


@pytest.mark.parametrize(
    ('layer', 'message'),
    [
        (
            dict(in_channels=16, num_templates=5),
            r'KDLayerClassifier: kd_layers\.penult lacks "module"',
        ),
        ('backbone.layer3', r'kd_layers\.penult must be a dict such as dict\(module='),
        (
            dict(module='backbone.layer4', in_channels=16, num_templates=5),
            r'Near.*backbone\.layer3',
        ),
        (dict(module='backbone.layer3', in_channels=0, num_templates=5), 'positive integer'),
        (
            dict(module='backbone.layer3', in_channels=16, teacher='backbone.layer3'),
            'has "teacher", but there is no teacher here.*state num_templates',
        ),
    ],
)
def test_a_description_that_does_not_fit(layer, message, classifier_config):
    config = classifier_config(type='mmkdlayer.KDLayerClassifier', kd_layers=dict(penult=layer))
    with pytest.raises(ConfigError, match=message):
        MODELS.build(config)


WITHOUT_MMRAZOR = """
import sys
sys.modules['mmrazor'] = None  # importing it raises ImportError
import torch
import mmkdlayer
from mmengine.registry import MODELS, DefaultScope

model = MODELS.build(eval(sys.argv[1]))
model.init_weights()
logits = model.eval()(torch.randn(2, 3, 16, 16))
assert logits.shape == (2, 3)

layer = mmkdlayer.models.KDLayerConnector(4, 6)
decision = mmkdlayer.models.CentroidDecision.from_tables(torch.randn(6, 3))
scores = layer.templates(torch.randn(2, 4, 2, 2))
mmkdlayer.models.TeacherDecisionLoss(decision)(scores, torch.randn(2, 3, 2, 2)).backward()

for make in (
    lambda: mmkdlayer.models.KDLayerDistiller(kd_layers={}),
    lambda: MODELS.build(dict(type='mmkdlayer.KDLayerDistiller')),
):
    try:
        make()
    except ImportError as error:
        print(error)
assert sys.modules['mmrazor'] is None
"""


def test_it_works_where_mmrazor_can_not_be_imported(config, run_script):
    printed = run_script(WITHOUT_MMRAZOR, repr(config))
    message = 'KDLayerDistiller needs mmrazor'
    advice = 'pip install "mmrazor>=1,<2" joblib'
    assert printed.count(message) == printed.count(advice) == 2, printed


@pytest.mark.parametrize(
    ('given', 'kind'),
    [
        ({}, 'ClsDataPreprocessor'),
        (dict(data_preprocessor=dict(mean=[1.0], std=[2.0])), 'ClsDataPreprocessor'),
        (dict(data_preprocessor=dict(type='ImgDataPreprocessor')), 'ImgDataPreprocessor'),
    ],
)
def test_data_preprocessor_in_any_scope(
    classifier_config: Callable[..., dict], given: dict, kind: str
) -> None:
    config = classifier_config(type='mmkdlayer.KDLayerClassifier', **given)
    for scope in ('mmpretrain', 'mmrazor'):
        with DefaultScope.overwrite_default_scope(scope):
            preprocessor = MODELS.build(dict(config)).data_preprocessor
        assert type(preprocessor).__name__ == kind
        assert not given.get('data_preprocessor', {}).get('mean') or preprocessor.mean.item() == 1


def test_augments_that_nothing_would_read(classifier_config, kd_layer_configs):
    augments = dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.8)])
    config = classifier_config(
        type='mmkdlayer.KDLayerClassifier', kd_layers=kd_layer_configs(), train_cfg=augments
    )
    config['data_preprocessor'] = dict(num_classes=3)
    assert MODELS.build(copy.deepcopy(config)).data_preprocessor.batch_augments is not None
    config['data_preprocessor'] = dict(type='mmengine.ImgDataPreprocessor')
    with pytest.raises(ConfigError, match='nothing reads train_cfg=.* is a ImgDataPreprocessor'):
        MODELS.build(config)
