# The paper's table on Tiny-ImageNet: five pairs, three seeds. Quoted figures are the paper's (BMVC
# 2023), means of 3 runs; it has none of KD there.
title = 'Tiny-ImageNet'
description = 'The five pairs of the paper, 240 epochs each.'
seeds = [0, 1, 2]

_names = {
    'wrn40-2': 'WRN-40-2', 'wrn16-2': 'WRN-16-2', 'wrn40-1': 'WRN-40-1',
    'resnet56': 'ResNet-56', 'resnet20': 'ResNet-20', 'shufflenetv1': 'ShuffleNetV1',
    'resnet50': 'ResNet-50', 'mobilenetv2': 'MobileNetV2',
}
_teachers = {'wrn40-2': 61.26, 'resnet56': 58.34, 'resnet50': 68.97}
# Alone, letKD-1, letKD-2.
_pairs = {
    'wrn40-2_wrn16-2': (57.17, 61.42, 62.21),
    'wrn40-2_wrn40-1': (56.25, 59.75, 60.59),
    'resnet56_resnet20': (52.66, 55.54, 57.35),
    'wrn40-2_shufflenetv1': (60.52, 65.70, 66.15),
    'resnet50_mobilenetv2': (58.35, 60.69, 61.15),
}


def _rows(pair, quoted):
    teacher, student = pair.split('_')
    group = f'{_names[teacher]} teaches {_names[student]}'
    letkd = f'configs/kdlayer/{pair}_tinyimagenet'
    variable = dict(pair=f'{pair}_tinyimagenet')
    given = dict(
        alone=dict(config='pairs/alone.py', cfg_options=variable, quoted=quoted[0]),
        kd=dict(config='pairs/kd.py', cfg_options=variable, teacher=teacher),
        letkd1=dict(config=f'{letkd}_letkd1.py', teacher=teacher, quoted=quoted[1]),
        letkd2=dict(config=f'{letkd}.py', teacher=teacher, quoted=quoted[2]))
    labels = [_names[student], 'KD', 'letKD-1', 'letKD-2']
    return {
        f'{pair}_{name}': dict(row, label=label, group=group)
        for (name, row), label in zip(given.items(), labels)}


teachers = {
    name: dict(config=f'configs/teachers/{name}_tinyimagenet.py', label=_names[name], quoted=figure)
    for name, figure in _teachers.items()}
rows = {name: row for pair, quoted in _pairs.items() for name, row in _rows(pair, quoted).items()}
comparisons = [
    (f'{pair}_{first}', f'{pair}_{second}')
    for pair in _pairs
    for first, second in (('letkd2', 'alone'), ('letkd2', 'kd'), ('letkd2', 'letkd1'))]
