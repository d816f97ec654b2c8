# The evidence: does letKD pay on photographs, with three seeds, and at its price?
#
#   python studies/photographs_data.py TINY_IMAGENET data/photographs
#   python tools/study.py studies/photographs.py --data-root data/photographs --out work_dirs/photographs
#
# The plan, written on 2026-11-26 before the first run:
# - Images: the first 100 classes of Tiny-ImageNet by name at 32x32 (the mean of each 2x2 pixels),
#   the first 200 of 500 training images of each class, random crops with a padding of 4 and flips.
#   All 5,000 validation images decide; nothing is chosen by them. Should settings be tuned after
#   this study, then on "tune", 20 other training images of each class.
# - Teacher: ResNet-56, 24 epochs on the same images, batch 256, rate 0.2, one seed. The study is
#   void where it is not at least 3 points better than the mean of the student alone.
# - Student: ResNet-20. 6 epochs of 20,000 images, batch 128, SGD with Nesterov momentum 0.9, weight
#   decay 5e-4, rate 0.1 after one epoch of linear warm-up, then a cosine to 0; float32, with TF32
#   in convolutions on a GPU. The rate is the CIFAR schedule's for this batch, scaled linearly; no
#   row has one of its own.
# - Weights: KD, standardised logits and DKD have their authors' for CIFAR-100 (DKD without its
#   warm-up). With KD layers the labels have 1, and 0.1 beside standardised logits, which stand for
#   "the best logit loss": which one is best here is not known before.
# - "Wide" are students alone: as many multiply-adds (84.6 M) or parameters (0.90 M) as letKD-2 when
#   folded (81.3 M, 0.91 M).
# - Stored decisions: with 6 epochs, 6 stored views are each seen once, as 16 would be; so 6, 3 and
#   1 views.
# - Seeds 0, 1, 2: the same order of images for all rows of a seed. The primary comparisons are
#   those of letKD-2 with the student alone, KD, the student of equal multiply-adds, the
#   unsupervised layers, and both alphas 0. An interval that has zero inside is told as "no
#   difference seen".
# - It is a short schedule on small images, chosen for its cost: about 0.12 M images seen in a run,
#   on one H100 for minutes, or on two cores for days. It says nothing about the last points of long
#   trainings.
# - Added on 2026-11-27 before their first runs, when all rows but QUEST, the mix and the stored views
#   were known, with what is expected of each: "learn faster" (the templates' learning rate is times
#   16 and 4, so that a template of 4096 and of 800 learns as fast as one of 256 and of 200, which the
#   tuning study points to) reaches what 256 and 200 templates have; with 256 and 200 templates, where
#   letKD-2 gains, feeding forward shows whether it helps; and DKD, the best logit loss seen, gains by
#   KD layers beside it. letKD-2, letKD-1 and both alphas 0 are run again on the GPU of the others:
#   their first runs were on CPUs. (Comparisons of "learn faster" with the student alone, the logit
#   losses and the student of as many parameters were added when its results were known.)
title = 'Does a KD layer pay? Photographs of 100 classes at 32x32'
description = (
    'ResNet-56 teaches ResNet-20 on 200 images of each of 100 classes of Tiny-ImageNet, in 6 epochs; '
    'tested on their 5,000 validation images. The plan is in studies/photographs.py.')

seeds = [0, 1, 2]
base = 'photographs_configs/letkd2.py'
teachers = dict(
    resnet56=dict(config='photographs_configs/teacher.py', label='ResNet-56, 24 epochs'))

_inter, _penult = (f'model.distiller.kd_layers.{name}' for name in ('inter', 'penult'))
_alphas_0 = {f'{_inter}.alpha': 0.0, f'{_penult}.alpha': 0.0}


def _templates(centroids, subclasses):
    """A budget: fewer templates in both layers."""
    return {
        f'{_penult}.decision.num_centroids': centroids,
        f'{_inter}.decision.num_subclasses': subclasses,
    }


def _row(config, label, group, **more):
    return dict(config=f'photographs_configs/{config}.py', label=label, group=group, **more)


_field, _letkd, _control, _cheap, _later = (
    'Baselines', 'letKD', 'Capacity or knowledge?', 'Budgets and stored decisions', 'Added later')
_taught = dict(teacher='resnet56')
rows = dict(
    alone=_row('student', 'ResNet-20 alone', _field),
    wide_flops=_row('wide_by_flops', 'wider, as many multiply-adds as letKD-2', _control),
    unsupervised=_row('unsupervised', 'KD layers without a teacher', _control),
    wide_parameters=_row(
        'wide_by_parameters', 'wider, as many parameters as letKD-2', _control),
    letkd2=_row('letkd2', 'letKD-2', _letkd, **_taught),
    kd=_row('kd', 'KD', _field, **_taught),
    alpha0=_row(
        'letkd2', 'letKD-2, both alphas 0', _letkd, **_taught, cfg_options=_alphas_0),
    letkd1=_row('letkd1', 'letKD-1', _letkd, **_taught),
    quest=_row(
        'letkd1', 'QUEST (letKD-1, alpha 0)', _letkd, **_taught,
        cfg_options={f'{_penult}.alpha': 0.0}),
    ls=_row('ls', 'KD of standardised logits', _field, **_taught),
    letkd2_ls=_row('letkd2_ls', 'letKD-2 + standardised logits', _letkd, **_taught),
    dkd=_row('dkd', 'DKD', _field, **_taught),
    quarter=_row(
        'letkd2', 'letKD-2, 1024 and 200 templates', _cheap, **_taught,
        cfg_options=_templates(1024, 2)),
    sixteenth=_row(
        'letkd2', 'letKD-2, 256 and 200 templates', _cheap, **_taught,
        cfg_options=_templates(256, 2)),
    stored6=_row(
        'letkd2', 'letKD-2, 6 stored views', _cheap, **_taught, stored=dict(views=6)),
    stored1=_row(
        'letkd2', 'letKD-2, 1 stored view', _cheap, **_taught, stored=dict(views=1)),
    stored3=_row(
        'letkd2', 'letKD-2, 3 stored views', _cheap, **_taught, stored=dict(views=3)),
    fast=_row('letkd2_fast', 'letKD-2, templates learn faster', _later, **_taught),
    sixteenth_alpha0=_row(
        'letkd2', 'letKD-2, 256 and 200 templates, both alphas 0', _later, **_taught,
        cfg_options={**_templates(256, 2), **_alphas_0}),
    sixteenth_dkd=_row(
        'letkd2_dkd', 'letKD-2, 256 and 200 templates, + DKD', _later, **_taught,
        cfg_options=_templates(256, 2)),
)
comparisons = [
    ('letkd2', 'alone'),
    ('letkd2', 'kd'),
    ('letkd2', 'wide_flops'),
    ('letkd2', 'wide_parameters'),
    ('letkd2', 'unsupervised'),
    ('letkd2', 'alpha0'),
    ('letkd2', 'letkd1'),
    ('letkd1', 'quest'),
    ('letkd2_ls', 'ls'),
    ('letkd2_ls', 'letkd2'),
    ('quarter', 'letkd2'),
    ('sixteenth', 'letkd2'),
    ('stored6', 'letkd2'),
    ('stored3', 'letkd2'),
    ('stored1', 'letkd2'),
    ('sixteenth', 'alone'),
    ('sixteenth', 'sixteenth_alpha0'),
    ('fast', 'letkd2'),
    ('fast', 'sixteenth'),
    ('fast', 'alone'),
    ('fast', 'kd'),
    ('fast', 'wide_parameters'),
    ('fast', 'ls'),
    ('fast', 'dkd'),
    ('sixteenth_dkd', 'dkd'),
    ('sixteenth_dkd', 'sixteenth'),
]
