"""The standalone student's config."""

from __future__ import annotations

import copy

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS

from mmkdlayer.deploy import student_config, student_model_config
from mmkdlayer.deploy.student_config import without_teacher
from mmkdlayer.errors import ConfigError
from mmkdlayer.models import TeacherModule


def test_the_model_is_the_architecture_with_its_kd_layers(
    make_config, distillation_config, kd_layer_configs
):
    cfg = make_config(distillation_config())
    before = copy.deepcopy(cfg.to_dict())
    model = student_config(cfg).model
    assert cfg.to_dict() == before
    assert model.type == 'mmkdlayer.KDLayerClassifier'
    assert model.kd_layers.to_dict() == kd_layer_configs()
    for part in ('backbone', 'neck', 'head'):
        assert model[part] == cfg.model.architecture[part]
    assert model.data_preprocessor.type.endswith('ClsDataPreprocessor')
    MODELS.build(model)


def test_nothing_of_the_training_is_left(make_config, distillation_config):
    student = student_config(make_config(distillation_config()))
    assert student.custom_imports.imports == ['mmkdlayer']
    assert {'test_dataloader', 'test_evaluator', 'test_cfg', 'default_scope'} <= set(student.keys())
    assert student.test_pipeline == student.test_dataloader.dataset.pipeline
    text = student.pretty_text
    for word in ('teacher', 'mmrazor', 'distiller', 'optim', 'FitDecisions', 'train_'):
        assert word not in text, word


def test_nothing_of_the_trainers_machine_is_left(make_config, distillation_config):
    """As after training with TensorBoard and logging to a folder of the machine."""
    cfg = make_config(
        distillation_config(),
        visualizer=dict(
            type='UniversalVisualizer', vis_backends=[dict(type='TensorboardVisBackend')]
        ),
        vis_backends=[dict(type='WandbVisBackend', init_kwargs=dict(entity='me'))],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', out_dir='/scratch/me')),
        env_cfg=dict(dist_cfg=dict(backend='nccl')),
        work_dir='/scratch/me/run',
        load_from='/scratch/me/earlier.pth',
        log_level='DEBUG',
        user_name='me',
    )
    cfg.test_dataloader.dataset.update(data_root='/scratch/me/animals', backend_args=dict(key='me'))
    cfg.test_evaluator.out_file_path = '/scratch/me/results.pkl'
    student = student_config(cfg)
    assert set(student.keys()) == {
        *('model', 'custom_imports', 'default_scope', 'test_dataloader', 'test_evaluator'),
        *('test_cfg', 'test_pipeline', 'visualizer', 'default_hooks'),
    }
    assert student.test_dataloader.dataset.data_root == 'data/animals'
    for word in ('scratch', 'Tensorboard', 'Wandb', "'me'", 'nccl', 'CheckpointHook'):
        assert word not in student.pretty_text, word


def test_classes_as_types_are_written_by_name(make_config, distillation_config, tmp_path):
    from mmengine.dataset import DefaultSampler, pseudo_collate
    from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
    from mmpretrain.evaluation import Accuracy
    from mmpretrain.models import ImageClassifier

    cfg = make_config(distillation_config())
    cfg.model.architecture.type = ImageClassifier
    cfg.test_evaluator.type = Accuracy
    cfg.test_dataloader.update(
        sampler=dict(type=DefaultSampler), collate_fn=dict(type=pseudo_collate)
    )
    cfg.test_dataloader.dataset.update(
        type=CustomDataset, pipeline=[dict(type=LoadImageFromFile), dict(type=PackInputs)]
    )
    student = student_config(cfg)
    (tmp_path / 'student.py').write_text(student.pretty_text)
    read = Config.fromfile(tmp_path / 'student.py')
    assert read.model.type == 'mmkdlayer.KDLayerClassifier'
    assert read.test_evaluator.type == 'mmpretrain.evaluation.metrics.single_label.Accuracy'
    assert TRANSFORMS.build(read.test_pipeline[1])
    assert read.test_dataloader.collate_fn.type == 'mmengine.dataset.utils.pseudo_collate'


def test_without_test_images_the_validation_is_the_test(make_config, distillation_config):
    cfg = make_config(distillation_config())
    for name in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'val_{name}'] = cfg.pop(f'test_{name}')
    student = student_config(cfg)
    assert student.test_dataloader.dataset.pipeline == student.test_pipeline
    assert student.test_evaluator.type == 'Accuracy' and student.test_cfg == {}


def test_the_written_config_is_the_config(make_config, distillation_config, tmp_path):
    student = student_config(make_config(distillation_config()))
    (tmp_path / 'student.py').write_text(student.pretty_text)
    assert Config.fromfile(tmp_path / 'student.py').to_dict() == student.to_dict()


def test_the_config_of_a_student_stays_as_it_is(make_config, distillation_config):
    student = student_config(make_config(distillation_config()))
    again = student_config(student)
    assert again.to_dict() == student.to_dict()
    again.model.backbone.depth = 34
    assert student.model.backbone.depth == 18


def test_a_stock_architecture_by_path(make_config, distillation_config):
    path = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    config = distillation_config(architecture=dict(cfg_path=path, pretrained=False))
    config['distiller']['kd_layers']['inter']['in_channels'] = 512
    student = student_config(make_config(config))
    assert student.model.backbone.type.endswith('ResNet_CIFAR')
    assert student.model.head.in_channels == 512
    assert student.model.data_preprocessor.mean == [125.307, 122.961, 113.8575]
    assert 'cfg_path' not in student.model and 'pretrained' not in student.model


def test_pretrained_weights_and_scopes_are_dropped(make_config, distillation_config):
    config = distillation_config()
    architecture = config['architecture']
    architecture['backbone'].update(
        _scope_='mmpretrain', init_cfg=dict(type='Pretrained', checkpoint='some/where.pth')
    )
    architecture['head']['init_cfg'] = dict(type='Normal', layer='Linear', std=0.01)
    architecture['neck']['pretrained'] = True  # as timm's networks have it, which then download
    architecture['_scope_'] = 'mmpretrain'
    model = student_model_config(make_config(config))
    assert 'init_cfg' not in model['backbone'] and 'pretrained' not in model['neck']
    assert '_scope_' not in str(model)
    assert model['head']['init_cfg']['type'] == 'Normal'


@pytest.mark.parametrize('where', ['model', 'config', 'architecture'])
def test_the_preprocessor_is_that_of_the_training_without_augmentation(
    where, make_config, distillation_config
):
    preprocessor = dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[1, 2, 3],
        std=[4, 5, 6],
        batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]),
    )
    config, more = distillation_config(), {}
    if where == 'config':
        more['data_preprocessor'] = preprocessor
    else:
        (config if where == 'model' else config['architecture'])['data_preprocessor'] = preprocessor
    expected = {k: v for k, v in preprocessor.items() if k != 'batch_augments'}
    found = student_config(make_config(config, **more)).model.data_preprocessor
    assert found.to_dict() == expected


def test_the_output_index_of_a_place_is_kept(make_config, distillation_config):
    config = distillation_config()
    config['distiller']['kd_layers']['penult'].update(module='backbone', output_index=0)
    layer = student_config(make_config(config)).model.kd_layers.penult
    assert (layer.module, layer.output_index, layer.num_templates) == ('backbone', 0, 5)


def test_another_kind_of_layer_keeps_its_type(make_config, distillation_config):
    config = distillation_config()
    config['distiller']['kd_layers']['inter']['layer'] = dict(type='some.OtherLayer')
    layers = student_config(make_config(config)).model.kd_layers
    assert layers.inter.layer == dict(type='some.OtherLayer') and 'layer' not in layers.penult


def test_models_that_have_no_student():
    model = dict(architecture='Other', type='Distillation')
    with pytest.raises(ConfigError, match=r"has an `architecture`.*of type 'Distillation'"):
        student_config(Config(dict(model=model)))
    model = dict(architecture=dict(type='mmdet.FasterRCNN'), distiller=dict())
    with pytest.raises(ConfigError, match=r"type 'mmdet\.FasterRCNN'.*ImageClassifier, of KDLayer"):
        student_config(Config(dict(model=model)))


def test_a_plain_classifier_gets_the_preprocessor_of_its_training(make_config, classifier_config):
    preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', mean=[1, 2, 3], std=[4, 5, 6])
    cfg = make_config(classifier_config(), data_preprocessor=preprocessor)
    assert student_config(cfg).model.data_preprocessor == preprocessor
    assert 'data_preprocessor' not in cfg.model
    cfg.model.data_preprocessor = dict(preprocessor, mean=[0, 0, 0])
    assert student_config(cfg).model.data_preprocessor.mean == [0, 0, 0]


@pytest.mark.parametrize('place', ['teacher', 'group', 'data-free'])
def test_nothing_is_downloaded_for_networks_that_only_training_needs(
    place, make_config, distillation_config
):
    network = dict(cfg_path='mmpretrain::resnet/resnet18_8xb16_cifar10.py')
    own = dict(type='mmpretrain.ImageClassifier', pretrained='https://nowhere/teacher.pth')
    config = distillation_config(architecture=dict(network), teacher_ckpt='https://nowhere/a.pth')
    if place == 'teacher':
        config['teacher'] = dict(network)
    elif place == 'group':
        config['teacher'] = dict(
            type='mmkdlayer.TeacherGroup',
            teachers=dict(a=dict(network), b=dict(own)),
            checkpoints=dict(a='https://nowhere/a.pth'),
        )
    else:
        del config['teacher']
        config['teachers'] = dict(
            a=dict(build_cfg=dict(network), ckpt_path='https://nowhere/a.pth'),
            b=dict(build_cfg=dict(own)),
        )
    found = without_teacher(make_config(config))
    assert '://nowhere' not in str(found.model)
    assert (
        str(found.model).count("'cfg_path'") == str(found.model).count("'pretrained': False") == 2
    )


def test_names_stand_for_teachers_of_other_libraries(distillation_config, make_config):
    absent = dict(type='mmkdlayer.TeacherModule', source='not_there:network', weights=True)
    config = distillation_config()
    config['teacher'] = dict(type='mmkdlayer.TeacherGroup', teachers=dict(a=absent))
    config['distiller']['teacher_recorders'] = dict(
        more=dict(type='ModuleOutputs', source='a.model.more')
    )
    for name, layer in config['distiller']['kd_layers'].items():
        layer['teacher'] = f'a.model.{name}'
    model = MODELS.build(without_teacher(make_config(config)).model)
    assert sorted(model.student.kd_layers) == ['inter', 'penult']
    assert not list(model.teacher.parameters())
    for kind in (TeacherModule, 'TeacherModule'):
        config['teacher'] = dict(absent, type=kind)
        assert without_teacher(make_config(config)).model.teacher.type == 'mmkdlayer.NoTeacher'
