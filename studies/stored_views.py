# How many stored views are enough? letKD-2 with 1, 4 and 16 stored views against the live teacher.
#
#   python studies/photographs_data.py TINY_IMAGENET data/photographs
#   python tools/study.py studies/stored_views.py --data-root data/photographs --out work_dirs/views
#
# The plan, written on 2026-11-26 before the first run:
# - Images, teacher and networks are those of studies/photographs.py (the folder of its teacher may be
#   copied from there, teachers/resnet56). The students see each fourth of the teacher's training
#   images, 50 of each of 100 classes at 32x32. All 5,000 validation images decide.
# - Student: ResNet-20 with KD layers of 256 and 200 templates, the cheapest of that study. 24 epochs
#   of 5,000 images, batch 128, else its schedule. The live teacher decides for each of the 24 views
#   of an image; 16 stored views are seen once or twice each, 4 six times, 1 in every epoch.
# - Seeds 0 and 1: the same order of images for all rows of a seed. With two seeds the intervals are
#   wide, so small differences cannot be seen; the means are shown whatever comes out.
title = 'Stored decisions: how many views are enough?'
description = (
    'ResNet-56 teaches ResNet-20 with KD layers of 256 and 200 templates, on 50 images of each of 100 '
    'classes of Tiny-ImageNet at 32x32, in 24 epochs; tested on their 5,000 validation images. The '
    'plan is in studies/stored_views.py.')

seeds = [0, 1]
base = 'photographs_configs/letkd2_stored.py'
teachers = dict(
    resnet56=dict(config='photographs_configs/teacher.py', label='ResNet-56, 24 epochs'))


def _row(label, **more):
    return dict(teacher='resnet56', label=label, **more)


rows = dict(
    live=_row('live teacher'),
    stored1=_row('1 stored view', stored=dict(views=1)),
    stored4=_row('4 stored views', stored=dict(views=4)),
    stored16=_row('16 stored views', stored=dict(views=16)),
)
comparisons = [('stored1', 'live'), ('stored4', 'live'), ('stored16', 'live')]
