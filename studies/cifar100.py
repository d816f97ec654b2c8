# The paper's table on CIFAR-100: ten pairs, five ways to train each, five seeds. Quoted figures are the
# paper's (BMVC 2023), means of 5 runs.
title = 'CIFAR-100'
description = 'The ten pairs of the paper, 240 epochs each.'
seeds = [0, 1, 2, 3, 4]

_names = {
    'wrn40-2': 'WRN-40-2', 'wrn16-2': 'WRN-16-2', 'wrn40-1': 'WRN-40-1',
    'resnet56': 'ResNet-56', 'resnet110': 'ResNet-110', 'resnet20': 'ResNet-20',
    'resnet32': 'ResNet-32', 'resnet32x4': 'ResNet-32x4', 'resnet8x4': 'ResNet-8x4',
    'shufflenetv1': 'ShuffleNetV1', 'shufflenetv2': 'ShuffleNetV2',
    'resnet50': 'ResNet-50', 'mobilenetv2': 'MobileNetV2',
}
_teachers = {
    'wrn40-2': 75.61, 'resnet56': 72.34, 'resnet110': 74.31, 'resnet32x4': 79.42, 'resnet50': 79.34}
# Alone, KD, QUEST, letKD-1, letKD-2.
_pairs = {
    'wrn40-2_wrn16-2': (73.26, 74.92, 76.10, 76.29, 76.56),
    'wrn40-2_wrn40-1': (71.98, 73.54, 74.58, 75.01, 75.19),
    'resnet56_resnet20': (69.06, 70.66, 71.84, 72.44, 73.27),
    'resnet110_resnet20': (69.06, 70.67, 71.89, 72.68, 73.38),
    'resnet110_resnet32': (71.14, 73.08, 74.08, 74.40, 74.62),
    'resnet32x4_resnet8x4': (72.50, 73.33, 75.88, 76.70, 77.09),
    'wrn40-2_shufflenetv1': (70.50, 74.83, 76.75, 76.93, 77.08),
    'resnet32x4_shufflenetv1': (70.50, 74.07, 76.28, 76.65, 77.30),
    'resnet32x4_shufflenetv2': (71.82, 74.45, 77.09, 77.75, 77.95),
    'resnet50_mobilenetv2': (64.60, 67.35, 69.81, 69.97, 70.39),
}


def _rows(pair, quoted):
    teacher, student = pair.split('_')
    group = f'{_names[teacher]} teaches {_names[student]}'
    letkd = f'configs/kdlayer/{pair}_cifar100'
    variable = dict(pair=f'{pair}_cifar100')
    alpha = 'model.distiller.kd_layers.penult.alpha'
    given = dict(
        alone=dict(config='pairs/alone.py', cfg_options=variable),
        kd=dict(config='pairs/kd.py', cfg_options=variable, teacher=teacher),
        quest=dict(config=f'{letkd}_letkd1.py', cfg_options={alpha: 0.0}, teacher=teacher),
        letkd1=dict(config=f'{letkd}_letkd1.py', teacher=teacher),
        letkd2=dict(config=f'{letkd}.py', teacher=teacher))
    labels = [_names[student], 'KD', 'QUEST', 'letKD-1', 'letKD-2']
    return {
        f'{pair}_{name}': dict(row, label=label, group=group, quoted=figure)
        for (name, row), label, figure in zip(given.items(), labels, quoted)}


teachers = {
    name: dict(config=f'configs/teachers/{name}_cifar100.py', label=_names[name], quoted=figure)
    for name, figure in _teachers.items()}
rows = {name: row for pair, quoted in _pairs.items() for name, row in _rows(pair, quoted).items()}
comparisons = [
    (f'{pair}_{first}', f'{pair}_{second}')
    for pair in _pairs
    for first, second in (('letkd2', 'alone'), ('letkd2', 'kd'), ('letkd2', 'letkd1'))]
