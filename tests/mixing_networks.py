"""Distillations of other networks than mixing_cases: tokens, a teacher's classifier, a generator."""

from __future__ import annotations

from typing import Any

from mixing_cases import CLASSES, OF_GENERATORS, STUDENT, TEACHER


def with_loss(config: dict, loss: dict, mapping: dict, ours: dict, theirs: dict) -> dict:
    """The config with one more loss, ``loss_mixed``."""
    more = dict(
        student_recorders=ours,
        teacher_recorders=theirs,
        distill_losses=dict(loss_mixed=loss),
        loss_forward_mappings=dict(loss_mixed=mapping),
    )
    return dict(config, distiller=dict(config['distiller'], **more))


def vitkd(config: dict) -> tuple[dict, dict]:
    """A distillation of vision transformers, alone and with ViTKD's loss."""
    config = dict(config, architecture=transformer(STUDENT), teacher=transformer(TEACHER))
    for index, name in enumerate(('inter', 'penult')):
        block = f'backbone.layers.{index}'
        config['distiller']['kd_layers'][name].update(
            module=block, teacher=block, in_channels=STUDENT
        )
    blocks = ('first', 'second', 'last')
    recorders = {
        name: dict(type='ModuleOutputs', source=f'backbone.layers.{index}')
        for index, name in enumerate(blocks)
    }
    mapping = {
        f'{name}_{role}': dict(recorder=name, from_student=role == 'S')
        for name in blocks
        for role in 'ST'
    }
    loss = dict(type='mmkdlayer.ViTKDLoss', student_channels=STUDENT, teacher_channels=TEACHER)
    return config, with_loss(config, loss, mapping, recorders, recorders)


def transformer(channels: int) -> dict:
    """A vision transformer of three blocks, 16 tokens and a class token."""
    arch = dict(embed_dims=channels, num_layers=3, num_heads=2, feedforward_channels=2 * channels)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=16, patch_size=4),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead', num_classes=CLASSES, in_channels=channels
        ),
    )


def simkd(config: dict, **head: Any) -> tuple[dict, dict]:
    """letKD-2 of a student with the teacher's classifier, alone and with SimKD's loss."""
    student = config['architecture']
    student['neck'] = [
        dict(type='mmkdlayer.SimKDProjector', in_channels=STUDENT, out_channels=TEACHER),
        student['neck'],
    ]
    student['head'].update(in_channels=TEACHER, **head)
    mapping = dict(
        s_feature=dict(recorder='projected', from_student=True),
        t_feature=dict(recorder='last', from_student=False, data_idx=0),
    )
    mixed = with_loss(
        config,
        dict(type='mmrazor.L2Loss', normalize=False, div_element=True),
        mapping,
        dict(projected=dict(type='ModuleOutputs', source='neck.0.layers')),
        dict(last=dict(type='ModuleInputs', source='neck.gap')),
    )
    return config, mixed


def data_free(
    kind: str, classifier: dict, teacher: dict, decision: dict, generator: str = 'DAFLGenerator'
) -> dict:
    """A student with KD layers, a teacher and a generator of images in one of mmrazor's algorithms."""
    return dict(
        type=f'mmrazor.{kind}',
        _scope_='mmrazor',
        architecture=classifier,
        teachers=dict(big=dict(build_cfg=dict(teacher, _scope_='mmpretrain'))),
        generator=dict(type=generator, img_size=16, latent_dim=6, hidden_channels=8),
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=dict(
                scores=dict(type='ModuleOutputs', source='kd_layers.penult.templates'),
                logits=dict(type='ModuleOutputs', source='head.fc'),
            ),
            teacher_recorders=dict(
                map=dict(type='ModuleOutputs', source='big.backbone.layer3'),
                logits=dict(type='ModuleOutputs', source='big.head.fc'),
            ),
            distill_losses=dict(
                loss_penult=dict(type='mmkdlayer.TeacherDecisionLoss', decision=decision),
                loss_kl=dict(type='KLDivergence', tau=6),
            ),
            loss_forward_mappings=dict(
                loss_penult=dict(
                    scores=dict(recorder='scores', from_student=True),
                    teacher_feature=dict(recorder='map', from_student=False),
                ),
                loss_kl=dict(
                    preds_S=dict(recorder='logits', from_student=True),
                    preds_T=dict(recorder='logits', from_student=False),
                ),
            ),
        ),
        generator_distiller=dict(
            type='ConfigurableDistiller',
            teacher_recorders={
                name: dict(type='ModuleOutputs', source=f'big.{entry["source"]}')
                for name, entry in OF_GENERATORS.items()
            },
            distill_losses={f'loss_{name}': dict(type=name) for name in OF_GENERATORS},
            loss_forward_mappings={
                f'loss_{name}': {entry['key']: dict(recorder=name, from_student=False)}
                for name, entry in OF_GENERATORS.items()
            },
        ),
    )
