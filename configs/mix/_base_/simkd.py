# The teacher's classifier on the projected student (SimKD, CVPR 2022): `simkd` goes into the distiller
# of a pair whose student has a SimKDProjector as the first neck, and the teacher's head. As the
# authors do, nothing but the squared error trains the student.
simkd = dict(
    student_recorders=dict(projected=dict(type='ModuleOutputs', source='neck.0.layers')),
    teacher_recorders=dict(last_map=dict(type='ModuleInputs', source='neck.gap')),
    distill_losses=dict(
        loss_simkd=dict(type='mmrazor.L2Loss', normalize=False, div_element=True)),
    loss_forward_mappings=dict(
        loss_simkd=dict(
            s_feature=dict(recorder='projected', from_student=True),
            t_feature=dict(recorder='last_map', from_student=False, data_idx=0))))
# The head keeps the teacher's weights.
frozen_head = {'architecture.head': dict(lr_mult=0, decay_mult=0)}
