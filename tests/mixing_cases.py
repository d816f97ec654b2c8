"""How each distillation loss, of mmrazor and of this package, is mixed with KD layers, on tiny networks.

Student maps have 16 channels before and after the KD layer ``penult``, the teacher's 24.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import nn

from mmkdlayer.models import losses

STUDENT, TEACHER, CLASSES = 16, 24, 3
IMAGES = 30

#: Where the tiny student and teacher are read: recorder name -> (student's, teacher's).
SOURCES = {
    'after': (
        dict(type='ModuleOutputs', source='backbone.layer3'),
        dict(type='ModuleOutputs', source='backbone.layer3'),
    ),
    'before': (
        dict(type='ModuleInputs', source='kd_layers.penult'),
        dict(type='ModuleOutputs', source='backbone.layer3'),
    ),
    'gap': (
        dict(type='ModuleOutputs', source='neck.gap'),
        dict(type='ModuleOutputs', source='neck.gap'),
    ),
    'logits': (
        dict(type='ModuleOutputs', source='head.fc'),
        dict(type='ModuleOutputs', source='head.fc'),
    ),
    'stages': (
        dict(type='ModuleOutputs', source='backbone'),
        dict(type='ModuleOutputs', source='backbone'),
    ),
}
CONV = dict(
    type='mmrazor.ConvModuleConnector',
    in_channel=STUDENT,
    out_channel=TEACHER,
    norm_cfg=dict(type='BN'),
    act_cfg=None,
)
FEATURES = ('s_feature', 't_feature')
PREDICTIONS = ('preds_S', 'preds_T')


def case(
    reads: str, keys: tuple[str, str], student: Any = None, teacher: Any = None, **loss: Any
) -> dict:
    """One loss: what it reads, the names of its inputs, its connectors, its arguments."""
    labels, samples = loss.pop('labels', None), loss.pop('samples', None)
    parameters = loss.pop('parameters', {})
    return dict(
        reads=reads,
        keys=keys,
        student=student,
        teacher=teacher,
        loss=loss,
        labels=labels,
        samples=samples,
        parameters=parameters,
    )


#: Losses on feature maps: each reads the student before and after the KD layer.
ON_MAPS = {
    'ABLoss': case('map', FEATURES, CONV),
    'ATLoss': case('map', FEATURES),
    'ChannelWiseDivergence': case('map', PREDICTIONS, CONV),
    'FBKDLoss': case(
        'map',
        ('s_input', 't_input'),
        [CONV, dict(type='mmrazor.FBKDStudentConnector', in_channels=TEACHER)],
        dict(type='mmrazor.FBKDTeacherConnector', in_channels=TEACHER),
        mask_l2_weight=1.0,
    ),
    'FTLoss': case(
        'map',
        FEATURES,
        dict(type='mmrazor.Translator', in_channel=STUDENT, out_channel=6),
        dict(type='mmrazor.Paraphraser', in_channel=TEACHER, out_channel=6, phase='train'),
    ),
    'L1Loss': case('map', FEATURES, CONV),
    'L2Loss': case('map', FEATURES, CONV),
    'MGDLoss': case(
        'map',
        PREDICTIONS,
        dict(type='mmrazor.MGDConnector', student_channels=STUDENT, teacher_channels=TEACHER),
        alpha_mgd=0.01,
    ),
    'OFDLoss': case('map', FEATURES, CONV),
    'PKDLoss': case('map', PREDICTIONS, CONV),
    'SDDLoss': case(
        'map',
        ('feature_S', 'feature_T'),
        labels='gt_labels',
        parameters=dict(weight_S='head.fc.weight', weight_T='head.fc.weight'),
    ),
}
#: Losses on all stages, pooled features or logits, which come after every KD layer.
ON_VECTORS = {
    'AngleWiseRKD': case('gap', PREDICTIONS),
    'CRDLoss': case(
        'gap',
        ('s_feats', 't_feats'),
        dict(type='mmrazor.CRDConnector', dim_in=STUDENT, dim_out=8),
        dict(type='mmrazor.CRDConnector', dim_in=TEACHER, dim_out=8),
        neg_num=5,
        sample_n=IMAGES,
        dim_out=8,
        samples='data_samples',
    ),
    'CrossEntropyLoss': case('logits', PREDICTIONS),
    'DISTLoss': case('logits', ('logits_S', 'logits_T')),
    'DKDLoss': case('logits', PREDICTIONS, labels='gt_labels'),
    'DistanceWiseRKD': case('gap', PREDICTIONS),
    'KDSoftCELoss': case('logits', PREDICTIONS, tau=2.0),
    'KLDivergence': case('logits', PREDICTIONS, tau=2.0),
    'WSLD': case('logits', ('student', 'teacher'), labels='gt_labels', num_classes=CLASSES),
    'LogitStandardization': case(
        'logits',
        PREDICTIONS,
        labels='gt_labels',
        loss=dict(type='mmrazor.DKDLoss', tau=2),
    ),
    'NKDLoss': case('logits', PREDICTIONS, labels='gt_labels'),
    'ReviewKDLoss': case(
        'stages',
        ('features_S', 'features_T'),
        dict(
            type='mmkdlayer.ReviewKDConnector',
            student_channels=(4, 8, STUDENT),
            teacher_channels=(6, 12, TEACHER),
            mid_channels=5,
        ),
    ),
    'WTTMLoss': case('logits', PREDICTIONS),
}
#: Losses that train an image generator: they read the teacher alone, so no student learns from them.
#: They are mixed in the data-free trainings of test_algorithms.py.
OF_GENERATORS = {
    'ActivationLoss': dict(source='neck.gap', key='feat_T'),
    'InformationEntropyLoss': dict(source='head.fc', key='preds_T'),
    'OnehotLikeLoss': dict(source='head.fc', key='preds_T'),
}
MIXED = {**ON_MAPS, **ON_VECTORS}
#: Losses of this package that are no KD layer's.
OURS = {name for name in losses.__all__ if not name.endswith('DecisionLoss')}
PARAMETERS = [(name, place) for name in ON_MAPS for place in ('before', 'after')]
PARAMETERS += [(name, entry['reads']) for name, entry in ON_VECTORS.items()]


def scope_of(name: str) -> str:
    """The package that registers a loss."""
    return 'mmkdlayer' if name in OURS else 'mmrazor'


def add_loss(config: dict, name: str, place: str) -> None:
    """Add a loss to a distillation's config, as ``loss_mixed``.

    Args:
        config: Changed in place.
        name: Key of :data:`MIXED`.
        place: Key of :data:`SOURCES`.
    """
    entry, distiller = MIXED[name], config['distiller']
    student, teacher = SOURCES[place]
    if place == 'stages':
        for network in ('architecture', 'teacher'):
            config[network]['backbone']['out_indices'] = (0, 1, 2)
    distiller.setdefault('student_recorders', {})['mixed'] = dict(student)
    distiller.setdefault('teacher_recorders', {})['mixed'] = dict(teacher)
    distiller.setdefault('distill_losses', {})['loss_mixed'] = dict(
        type=f'{scope_of(name)}.{name}', **entry['loss']
    )
    ours: dict = dict(recorder='mixed', from_student=True)
    theirs: dict = dict(recorder='mixed', from_student=False)
    if place == 'before':
        ours['data_idx'] = 0
    connectors = distiller.setdefault('connectors', {})
    for key, connector, record in (
        ('mixed_student', entry['student'], ours),
        ('mixed_teacher', entry['teacher'], theirs),
    ):
        if connector is not None:
            connectors[key] = connector
            record['connector'] = key
    mapping = {entry['keys'][0]: ours, entry['keys'][1]: theirs}
    if entry['labels']:
        distiller.setdefault('student_recorders', {})['gt_label'] = dict(
            type='ModuleInputs', source='head.loss_module'
        )
        mapping[entry['labels']] = dict(recorder='gt_label', from_student=True, data_idx=1)
    if entry['samples']:
        distiller.setdefault('student_recorders', {})['samples'] = dict(
            type='ModuleInputs', source=''
        )
        mapping[entry['samples']] = dict(recorder='samples', from_student=True, data_idx=1)
    for key, source in entry['parameters'].items():
        role = 'student' if key.endswith('S') else 'teacher'
        distiller[f'{role}_recorders'][source] = dict(type='Parameter', source=source)
        mapping[key] = dict(recorder=source, from_student=role == 'student')
    distiller.setdefault('loss_forward_mappings', {})['loss_mixed'] = mapping


def with_kd_layers(classifier: dict, kd_layers: dict) -> dict:
    """A student that has KD layers whatever distiller it meets."""
    return dict(
        classifier, type='mmkdlayer.KDLayerClassifier', _scope_='mmpretrain', kd_layers=kd_layers
    )


def stock(config: dict, kd_layers: dict, kind: str = 'ConfigurableDistiller') -> dict:
    """The same distillation with one of mmrazor's own distillers; the student brings its KD layers.

    Args:
        config: A distillation with a KDLayerDistiller; changed in place.
        kd_layers: ``kd_layers`` of the KDLayerClassifier.
        kind: mmrazor's distiller.
    """
    config['_scope_'] = 'mmrazor'
    config['architecture'] = with_kd_layers(config['architecture'], kd_layers)
    if 'teacher' in config:
        config['teacher'] = dict(config['teacher'], _scope_='mmpretrain')
    distiller = config['distiller']
    distiller['type'] = f'mmrazor.{kind}'
    for name, layer in distiller.pop('kd_layers').items():
        supervise(distiller, name, layer)
    return config


def supervise(distiller: dict, name: str, layer: dict) -> None:
    """Add what supervises a KD layer to one of mmrazor's own distillers, in mmrazor's form.

    Args:
        distiller: Changed in place.
        name: The layer's.
        layer: Its declaration for a KDLayerDistiller.
    """
    scores, label = f'{name}_scores', dict(type='ModuleInputs', source='head.loss_module')
    distiller.setdefault('student_recorders', {}).update(
        {
            scores: dict(type='ModuleOutputs', source=f'kd_layers.{name}.templates'),
            'gt_label': label,
        }
    )
    distiller.setdefault('teacher_recorders', {})[name] = dict(
        type='ModuleOutputs', source=layer['teacher']
    )
    distiller.setdefault('distill_losses', {})[f'loss_{name}'] = dict(
        type='mmkdlayer.TeacherDecisionLoss', decision=layer['decision']
    )
    distiller.setdefault('loss_forward_mappings', {})[f'loss_{name}'] = dict(
        scores=dict(recorder=scores, from_student=True),
        teacher_feature=dict(recorder=name, from_student=False),
        gt_label=dict(recorder='gt_label', from_student=True, data_idx=1),
    )


def to_be_delivered(feature: Any) -> Any:
    """A function whose output a delivery takes from the teacher to the student."""
    return feature + 0


def build(config: dict) -> nn.Module:
    """A model in training mode, initialised from a seed."""
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    model.train()
    return model
