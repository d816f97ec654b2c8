"""One entry for each pair's config: what it says, what the paper says, what its student costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmkdlayer.deploy import student_model_config
from mmkdlayer.errors import ConfigError

from .costs import Cost, measure
from .published import DATASETS, FIGURES, NAMES, Dataset, Figures

LETKD1 = '_letkd1'


@dataclass(frozen=True)
class Entry:
    """A pair's config.

    Attributes:
        name: The file without its suffix.
        teacher: Short name of the teacher, as in the file's name.
        student: The same of the student.
        data: The same of the data set.
        epochs: Length of the training.
        batch_size: Images a step, over all processes.
        checkpoint: The teacher's weights.
        cost: Of the student.
    """

    name: str
    teacher: str
    student: str
    data: str
    epochs: int
    batch_size: int
    checkpoint: str
    cost: Cost

    @property
    def pair(self) -> str:
        """The name without the variant."""
        return self.name[: -len(LETKD1)] if self.one_layer else self.name

    @property
    def one_layer(self) -> bool:
        """Whether it is letKD-1."""
        return self.name.endswith(LETKD1)

    @property
    def method(self) -> str:
        """Name of the variant."""
        return 'letKD-1' if self.one_layer else 'letKD-2'

    @property
    def dataset(self) -> Dataset:
        """The data set."""
        return DATASETS[self.data]

    @property
    def figures(self) -> Figures | None:
        """The paper's figures of the pair, where it has some."""
        return FIGURES.get(self.pair)

    @property
    def accuracy(self) -> tuple[float, ...] | None:
        """The paper's accuracy of this variant, where it has one."""
        if self.figures is None:
            return None
        return self.figures.letkd1 if self.one_layer else self.figures.letkd2


def load_entries(folder: Path) -> list[Entry]:
    """Read and measure every pair's config, in the order of the paper's tables.

    Args:
        folder: ``configs/kdlayer``. Files that are not called ``<teacher>_<student>_<dataset>`` are
            no pairs of the paper.

    Raises:
        ConfigError: A config does not build, or a pair of the paper has none.
    """
    init_default_scope('mmpretrain')
    names = {path.stem for path in folder.glob('*.py') if _parts(path.stem)}
    needed = {f'{pair}{suffix}' for pair in FIGURES for suffix in ('', LETKD1)}
    missing = sorted(needed - names)
    if missing:
        raise ConfigError(
            f'{folder}: expected configs of both variants for each published pair, '
            f'but {missing} are missing.'
        )
    order = {pair: index for index, pair in enumerate(FIGURES)}
    datasets = list(DATASETS)

    def place(name: str) -> tuple:
        pair = name[: -len(LETKD1)] if name.endswith(LETKD1) else name
        return datasets.index(_parts(name)[2]), order.get(pair, len(order)), name

    return [load_entry(folder / f'{name}.py') for name in sorted(names, key=place)]


def load_entry(path: Path) -> Entry:
    """Read one pair's config and measure its student."""
    teacher, student, data = _parts(path.stem)
    cfg = Config.fromfile(path)
    return Entry(
        name=path.stem,
        teacher=teacher,
        student=student,
        data=data,
        epochs=cfg.train_cfg.max_epochs,
        batch_size=cfg.auto_scale_lr.base_batch_size,
        checkpoint=cfg.model.teacher_ckpt,
        cost=measure(student_model_config(cfg), DATASETS[data].side),
    )


def _parts(name: str) -> tuple[str, ...]:
    """Teacher, student and data set in a file's name; nothing for other files."""
    stem = name[: -len(LETKD1)] if name.endswith(LETKD1) else name
    parts = tuple(stem.split('_'))
    known = len(parts) == 3 and parts[0] in NAMES and parts[1] in NAMES and parts[2] in DATASETS
    return parts if known else ()
