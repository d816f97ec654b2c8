# Tokens of the first two blocks and the last (ViTKD, 2022), with letKD-2. The weights are the authors'
# for all of their pairs of vision transformers, without KD layers; this pair, and that the layers'
# losses keep their weight of 1, are chosen here.
_base_ = '../kdlayer/deit-base_deit-tiny_in1k.py'

blocks = dict(
    first=dict(type='ModuleOutputs', source='backbone.layers.0'),
    second=dict(type='ModuleOutputs', source='backbone.layers.1'),
    last=dict(type='ModuleOutputs', source='backbone.layers.11'))
model = dict(
    distiller=dict(
        student_recorders=blocks,
        teacher_recorders=blocks,
        distill_losses=dict(
            loss_vitkd=dict(
                type='mmkdlayer.ViTKDLoss', student_channels=192, teacher_channels=768)),
        loss_forward_mappings=dict(
            loss_vitkd=dict(
                first_S=dict(recorder='first', from_student=True),
                second_S=dict(recorder='second', from_student=True),
                last_S=dict(recorder='last', from_student=True),
                first_T=dict(recorder='first', from_student=False),
                second_T=dict(recorder='second', from_student=False),
                last_T=dict(recorder='last', from_student=False)))))
