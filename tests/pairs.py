"""A pair of networks for make_config, as small as they get."""

from __future__ import annotations

from pathlib import Path

from configuring import PairOptions

RESNET = 'resnet18_8xb16_cifar10'


def pair_options(
    folder: Path, out: Path, teacher: str = RESNET, student: str = RESNET, **more
) -> PairOptions:
    options = dict(data=str(folder), out=str(out), batch_size=12, epochs=1)
    return PairOptions(teacher, student, **{**options, **more})
