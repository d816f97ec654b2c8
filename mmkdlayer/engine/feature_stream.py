"""The teacher's features over the training set, as a stream of batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.distillers import release_records
from mmkdlayer.pipelines import find_pipeline, replace_pipeline

from .partial_loading import without_first_batches
from .teachers import find_teachers


def fitting_dataloader_cfg(cfg: Any) -> ConfigDict:
    """The training set, in order, under the test-time transform.

    Each item of the data set comes once; a wrapper that repeats images (RepeatDataset) is kept, so its
    images count as often as it gives them.

    Args:
        cfg: A training config with ``train_dataloader`` and ``val_dataloader`` or
            ``test_dataloader``.

    Raises:
        ConfigError: One of them is missing.
    """
    train = cfg.get('train_dataloader')
    test = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    pipeline = find_pipeline(test.get('dataset')) if test else None
    if not train or pipeline is None:
        raise ConfigError(
            'Fitting the decisions needs train_dataloader (the images) and val_dataloader or '
            'test_dataloader with a pipeline (the test-time transform), but the config has '
            f'{[k for k in cfg if k.endswith("_dataloader")]}. Add what is missing.'
        )
    loader = ConfigDict(
        dataset=replace_pipeline(train['dataset'], pipeline),
        batch_size=max(train.get('batch_size', 1), test.get('batch_size', 1)),
        num_workers=train.get('num_workers', 0),
        sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
        drop_last=False,
    )
    for key in ('collate_fn', 'pin_memory', 'prefetch_factor'):
        if key in test and not (key == 'prefetch_factor' and loader['num_workers'] == 0):
            loader[key] = copy.deepcopy(test[key])
    return loader


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Models in eval mode; every module's own mode comes back afterwards."""
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class FeatureStream:
    """Iterates (features by name, labels) over a data set, as often as it is asked.

    Args:
        algorithm: A distillation algorithm with one teacher or several, ``distiller`` (any of
            mmrazor's) and ``data_preprocessor``.
        records: For each name, where the distiller finds the teacher's feature (the entry
            ``teacher_feature`` of ``loss_forward_mappings``).
        dataloader: Config of the data loader.
        seed: Seed of the loader.
    """

    def __init__(
        self, algorithm: Any, records: dict[str, dict], dataloader: ConfigDict, seed: int = 0
    ) -> None:
        self.algorithm = algorithm
        self.teachers = [teacher.model for teacher in find_teachers(algorithm, {})]
        self.records = records
        self.pipeline = find_pipeline(dataloader['dataset'])
        self.loader = Runner.build_dataloader(copy.deepcopy(dataloader), seed=seed)

    @property
    def dataset(self) -> Any:
        """The data set that is streamed."""
        return self.loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        return self.starting_at(0)

    def starting_at(self, number: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """The stream without its first ``number`` batches, whose images are not even read."""
        with without_first_batches(self.loader, number) as batches:
            for batch in batches:
                yield self.features(batch)

    @torch.no_grad()
    def features(self, batch: dict) -> tuple[dict[str, Tensor], Tensor]:
        """The teacher's features (N, D, H, W) by name, and labels (N,), of one batch."""
        algorithm, distiller = self.algorithm, self.algorithm.distiller
        with evaluating(*self.teachers):
            data = algorithm.data_preprocessor(batch, False)
            with distiller.teacher_recorders:
                for teacher in self.teachers:
                    teacher(data['inputs'], mode='tensor')
            features = {name: distiller.get_record(**r) for name, r in self.records.items()}
            release_records(distiller)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        return features, labels

    @torch.no_grad()
    def shapes(self, scores: dict[str, dict]) -> dict[str, tuple[tuple, tuple]]:
        """Shapes of the teacher's features and of the student's scores, from one image.

        Args:
            scores: For each name, where the distiller finds the student's scores.

        Returns:
            By name: the teacher's (D, H', W') and the student's (K, H, W).
        """
        algorithm, distiller = self.algorithm, self.algorithm.distiller
        batch = self.loader.collate_fn([self.dataset[0]])
        with evaluating(algorithm.student):
            data = algorithm.data_preprocessor(batch, False)
            with distiller.student_recorders:
                algorithm.student(data['inputs'], mode='tensor')
            found = {name: distiller.get_record(**record) for name, record in scores.items()}
        shapes = {name: tuple(score.shape[1:]) for name, score in found.items()}
        features, _ = self.features(batch)
        return {name: (tuple(features[name].shape[1:]), shape) for name, shape in shapes.items()}
