"""The teacher's features over the training set, as a stream of batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.distillers import release_records
from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.pipelines import backend_args_of, find_pipelines

from .partial_loading import without_first_batches
from .signals import WATCH
from .streamed_images import CollateReadable, StreamedImages, refuse_unreadable
from .supervision import SupervisedLayer, check_shapes
from .worker_shield import shield_workers

Batch = tuple[dict[str, Tensor], Optional[Tensor]]


class FeatureStream:
    """Iterates (features by name of the layer, labels) over a data set, as often as it is asked.

    Args:
        algorithm: A distillation algorithm with teachers, a distiller (any of mmrazor's) and a data
            preprocessor.
        layers: The layers whose features are streamed, with their teachers; may be replaced by some of
            them. Labels are read where one of them needs them.
        dataloader: Config of the data loader, which ``seed`` is for.
        most: Number of images, at most: evenly spaced ones. None for all.
    """

    def __init__(
        self,
        algorithm: Any,
        layers: Sequence[SupervisedLayer],
        dataloader: ConfigDict,
        seed: int = 0,
        most: int | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.teachers = {layer.teacher.name: layer.teacher for layer in layers}
        self.models = [teacher.model for teacher in self.teachers.values()]
        self.layers = layers
        self.pipelines = find_pipelines(dataloader['dataset'])
        self.backend_args = backend_args_of(self.pipelines)
        images = dict(type=StreamedImages, dataset=dataloader['dataset'], most=most)
        self.loader = Runner.build_dataloader(dict(dataloader, dataset=images), seed=seed)
        shield_workers(self.loader, WATCH.numbers)
        self.loader.collate_fn = CollateReadable(self.loader.collate_fn)
        self.images: Any = self.loader.dataset
        self.dataset: Any = self.images.dataset

    @property
    def needs_labels(self) -> bool:
        """Whether a decision of the layers is made of the labels too."""
        return any(layer.decision.needs_labels for layer in self.layers)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.starting_at(0)

    def starting_at(self, number: int) -> Iterator[Batch]:
        """The stream without its first ``number`` batches, whose images are not even read.

        Raises:
            DataError: There are images that can't be read; all of them are named, up to a limit.
        """
        rest = without_first_batches(self.loader, number)
        with evaluating(*self.models), rest as batches:
            for batch in batches:
                refuse_unreadable(batch, batches)
                features, _, _ = self.run_teachers(batch)
                # As they were loaded, on the CPU: reading them from a device would wait for the teacher.
                samples = batch['data_samples'] if self.needs_labels else ()
                labels = torch.cat([sample.gt_label for sample in samples]) if samples else None
                yield features, labels

    @torch.no_grad()
    def run_teachers(self, batch: dict) -> tuple[dict[str, Tensor], list, dict[str, Any]]:
        """Of one batch the teachers' features (N, D, H, W) by layer, the samples, outputs by teacher."""
        distiller = self.algorithm.distiller
        data = self.algorithm.data_preprocessor(batch, False)
        with distiller.teacher_recorders:
            outputs = {
                name: teacher.model(data['inputs'], mode='tensor')
                for name, teacher in self.teachers.items()
            }
        features = {layer.name: self._feature(layer) for layer in self.layers}
        release_records(distiller)
        return features, data['data_samples'], outputs

    def _feature(self, layer: SupervisedLayer) -> Tensor:
        """The feature map that is recorded for a layer."""
        found = self.algorithm.distiller.get_record(**layer.feature)
        if not isinstance(found, Tensor):
            raise ConfigError(
                f'{layer.key}: expected a teacher module that returns a feature map (N, D, H, W), but '
                f'it returns a {type(found).__name__}. Name another one, or one of several outputs.'
            )
        return found

    @torch.no_grad()
    def check_shapes(self) -> None:
        """Check the teacher's features and the student's scores of one image for each layer."""
        batch = self.loader.collate_fn([self.images[0]])
        refuse_unreadable(batch, ())
        records = {layer.name: layer.scores for layer in self.layers}
        scores = student_scores(self.algorithm, batch, records)
        with evaluating(*self.models):
            features, _, _ = self.run_teachers(batch)
        for layer in self.layers:
            shapes = (tuple(found[layer.name].shape[1:]) for found in (features, scores))
            check_shapes(layer, *shapes)


@torch.no_grad()
def student_scores(
    algorithm: Any, batch: dict, records: Mapping[str, Mapping[str, Any]]
) -> dict[str, Tensor]:
    """The student's scores (N, K, H, W) of a batch, in eval mode, by layer, as they are recorded."""
    distiller = algorithm.distiller
    with evaluating(algorithm.student):
        data = algorithm.data_preprocessor(batch, False)
        with distiller.student_recorders:
            algorithm.student(data['inputs'], mode='tensor')
    scores = {name: distiller.get_record(**record) for name, record in records.items()}
    release_records(distiller)
    return scores
