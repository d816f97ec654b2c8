# Scale-decoupled KD (SD-KD, CVPR 2024): `sdd` goes into the distiller of a pair whose classifiers are
# linear and follow global average pooling. The settings are the authors' for ResNet-32x4 ->
# ResNet-8x4.
sdd = dict(
    student_recorders=dict(
        last_map=dict(type='ModuleInputs', source='neck.gap'),
        weight=dict(type='Parameter', source='head.fc.weight'),
        bias=dict(type='Parameter', source='head.fc.bias'),
        labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(
        last_map=dict(type='ModuleInputs', source='neck.gap'),
        weight=dict(type='Parameter', source='head.fc.weight'),
        bias=dict(type='Parameter', source='head.fc.bias')),
    distill_losses=dict(
        loss_sdd=dict(
            type='mmkdlayer.SDDLoss', tau=4, scales=(1, 2), beta=2, loss_weight=0.9)),
    loss_forward_mappings=dict(
        loss_sdd=dict(
            feature_S=dict(recorder='last_map', from_student=True, data_idx=0),
            feature_T=dict(recorder='last_map', from_student=False, data_idx=0),
            weight_S=dict(recorder='weight', from_student=True),
            weight_T=dict(recorder='weight', from_student=False),
            bias_S=dict(recorder='bias', from_student=True),
            bias_T=dict(recorder='bias', from_student=False),
            gt_labels=dict(recorder='labels', from_student=True, data_idx=1))))
