"""Data sets with made-up images, for configs whose data the tests do not have."""

from __future__ import annotations

import numpy as np
from mmpretrain.datasets import CIFAR100
from mmpretrain.registry import DATASETS

CLASSES, IMAGES = 3, 12


@DATASETS.register_module()
class MadeUpCIFAR100(CIFAR100):
    """Random images whose colour tells their class, of the first three classes alone."""

    METAINFO = dict(classes=['apple', 'aquarium_fish', 'baby'])

    def load_data_list(self) -> list[dict]:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 120, (IMAGES, 32, 32, 3), dtype=np.uint8)
        labels = np.arange(IMAGES) % CLASSES
        images[np.arange(IMAGES), ..., labels] += 100
        return [dict(img=image, gt_label=int(label)) for image, label in zip(images, labels)]
