# The paper's table on ImageNet: two pairs, one seed. Quoted figures are the paper's (BMVC 2023), one run
# each. Teachers are mmpretrain's, from its model zoo, with other weights than the paper's. A run is one
# process, which takes the whole batch of 256 images.
title = 'ImageNet'
description = 'The two pairs of the paper, 100 epochs each.'
seeds = [0]
common = {'train_dataloader.batch_size': 256}

# Alone, KD, QUEST, letKD-1, letKD-2. The paper calls MobileNetV1 "MNV2": see docs/method.md.
_pairs = {
    'resnet34_resnet18': (
        'ResNet-34 teaches ResNet-18', 'ResNet-18', (69.75, 70.66, 71.67, 72.33, 72.38)),
    'resnet50_mobilenetv1': (
        'ResNet-50 teaches MobileNetV1', 'MobileNetV1', (68.87, 68.58, 72.54, 73.78, 73.98)),
}


def _rows(pair, group, student, quoted):
    letkd = f'configs/kdlayer/{pair}_in1k'
    variable = dict(pair=f'{pair}_in1k')
    alpha = 'model.distiller.kd_layers.penult.alpha'
    given = dict(
        alone=dict(config='pairs/alone.py', cfg_options=variable),
        kd=dict(config='pairs/kd.py', cfg_options=variable),
        quest=dict(config=f'{letkd}_letkd1.py', cfg_options={alpha: 0.0}),
        letkd1=dict(config=f'{letkd}_letkd1.py'),
        letkd2=dict(config=f'{letkd}.py'))
    labels = [student, 'KD', 'QUEST', 'letKD-1', 'letKD-2']
    return {
        f'{pair}_{name}': dict(row, label=label, group=group, quoted=figure)
        for (name, row), label, figure in zip(given.items(), labels, quoted)}


rows = {
    name: row
    for pair, (group, student, quoted) in _pairs.items()
    for name, row in _rows(pair, group, student, quoted).items()}
comparisons = [
    (f'{pair}_{first}', f'{pair}_{second}')
    for pair in _pairs
    for first, second in (('letkd2', 'alone'), ('letkd2', 'kd'), ('letkd2', 'letkd1'))]
