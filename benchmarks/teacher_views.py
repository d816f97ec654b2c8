"""How far a teacher's images, made of the student's batch, are from those of its own preprocessing.

    python benchmarks/teacher_views.py

Of scikit-learn's two photographs, 20 random square crops each. The student's view is resized as mmcv
does, normalised, and converted and resized as in training; the teacher's own preprocessing resizes
the crop itself, bicubic with antialiasing. Root mean squares are in grey levels from 0 to 255.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from measuring import circumstances, markdown
from mmpretrain.models.utils import ClsDataPreprocessor
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from mmkdlayer.models.teachers import TeacherView
from mmkdlayer.models.teachers.teacher_module import resize_images

CROPS = 20
#: Sides of the student's and the teacher's images.
SIDES = ((224, 224), (224, 336), (224, 518), (160, 224), (64, 224), (32, 224))
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
HALF = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])


def as_batch(image: np.ndarray) -> Tensor:
    """An image (H, W, 3) as a batch of one."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None]


def random_crops() -> list[np.ndarray]:
    """Square crops of at least half the height, (S, S, 3)."""
    rng, found = np.random.default_rng(0), []
    for image in load_sample_images().images:
        height, width = image.shape[:2]
        for _ in range(CROPS):
            side = int(rng.integers(height // 2, height + 1))
            y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
            found.append(np.ascontiguousarray(image[y : y + side, x : x + side]))
    return found


def compare(crop: np.ndarray, student: int, teacher: int) -> list[float]:
    """Largest error of the conversion; distances to the teacher's own preprocessing and a resize."""
    preprocessor, own = ClsDataPreprocessor(**IMAGENET), ClsDataPreprocessor(**HALF)
    view = TeacherView(own)
    view.connect(preprocessor)
    shown = as_batch(cv2.resize(crop, (student, student), interpolation=cv2.INTER_LINEAR))
    batch = preprocessor(dict(inputs=shown), False)['inputs']
    converted = view.convert(batch) * own.std + own.mean
    given = resize_images(converted, (teacher, teacher))
    direct = np.asarray(Image.fromarray(crop).resize((teacher, teacher), Image.Resampling.BICUBIC))
    same = cv2.resize(crop, (teacher, teacher), interpolation=cv2.INTER_LINEAR)
    distances = [
        float((given - as_batch(other)).square().mean().sqrt()) for other in (direct, same)
    ]
    return [float((converted - shown).abs().max()), *distances, float(as_batch(crop).float().std())]


def main() -> None:
    """Measure and print the table."""
    crops, rows = random_crops(), []
    for student, teacher in SIDES:
        found = np.array([compare(crop, student, teacher) for crop in crops])
        rounding, (bicubic, bilinear, std) = found[:, 0].max(), found[:, 1:].mean(0)
        rows.append(
            [
                f'{student} to {teacher}',
                f'{rounding:.0e}',
                f'{bilinear:.1f}',
                f'{bicubic:.1f}',
                f'{100 * bicubic / std:.0f} %',
            ]
        )
    print(circumstances())
    print(
        markdown(
            [
                "student's to teacher's side",
                'conversion alone, largest',
                'to a bilinear resize of the crop',
                "to the teacher's own preprocessing",
                'of the standard deviation',
            ],
            rows,
        )
    )


if __name__ == '__main__':
    main()
