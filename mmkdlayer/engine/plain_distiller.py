"""KD layers in one's own training loop: plain PyTorch, without Runner, registry or config files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.fitting import run_fitters
from mmkdlayer.models.attach import attach_kd_layers, find_module
from mmkdlayer.models.connectors.teacher_feature import TeacherFeature
from mmkdlayer.models.decisions import TeacherDecision
from mmkdlayer.models.evaluating import evaluating, outputs_of
from mmkdlayer.models.kd_layer_options import parse_kd_layers
from mmkdlayer.models.losses import TeacherDecisionLoss

from .fit_decisions import FitOptions, make_fitter, progress_bar
from .supervision import SupervisedLayer, check_shapes


class PlainDistiller:
    """Puts KD layers into any student and supervises them by any teacher.

    The parts are those of :class:`KDLayerDistiller`; this one records by hooks of its own, so that the
    loop around it is the user's. The layers become the student's, as ``student.kd_layers.<name>``: make
    the optimiser afterwards. The teacher is frozen and put into eval mode.

    Args:
        student: The network that learns; modified in place.
        teacher: The network that teaches, or any part of it that has the modules that are named.
        kd_layers: As for :class:`KDLayerDistiller`.

    Raises:
        ConfigError: A declaration is wrong, or does not fit the networks.
        DecisionFileError: The file of a decision does not fit.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, kd_layers: Mapping[str, Mapping[str, Any]]
    ) -> None:
        options = parse_kd_layers(kd_layers, type(self).__name__)
        taught = {name: layer for name, layer in options.items() if layer.decision is not None}
        self._modules = {
            name: find_module(teacher, str(layer.teacher), f'kd_layers.{name}: the teacher')
            for name, layer in taught.items()
        }
        attach_kd_layers(student, options)
        self.student, self.teacher = student, teacher.requires_grad_(False).eval()
        self._losses: dict[str, TeacherDecisionLoss] = {}
        self._features: dict[str, TeacherFeature] = {}
        self._scores: dict[str, _Scores] = {}
        for name, layer in taught.items():
            self._losses[name] = TeacherDecisionLoss(**layer.loss_options())
            self._features[name] = TeacherFeature(name, **layer.feature_options())
            self._features[name].attach(teacher)
            self._scores[name] = _Scores()
            self._templates(name).register_forward_hook(self._scores[name])

    @property
    def decisions(self) -> dict[str, TeacherDecision]:
        """The decision of each supervised layer; ``save(path)`` writes its file."""
        return {name: loss.decision for name, loss in self._losses.items()}

    def fit(self, batches: Iterable[Any], progress: bool = True, **options: Any) -> None:
        """Fit the decisions that have no tables yet, on what the teacher makes of the images.

        Args:
            batches: Gives (images, labels), or images alone; such as a DataLoader. It is iterated two or
                three times, so it must give the same images each time, best without random
                augmentation. Labels (N,) are read where a SubclassDecision is fitted.
            progress: Whether to show bars.
            **options: As for :class:`~mmkdlayer.engine.fit_decisions.FitOptions`.

        Raises:
            ConfigError: Shapes do not fit, or an option is wrong.
            DataError: The data do not suffice.
        """
        missing = {name: d for name, d in self.decisions.items() if not d.is_fitted}
        if not missing:
            return
        if iter(batches) is batches:
            raise ConfigError(
                f'PlainDistiller.fit: expected batches that can be iterated again and again, such as a '
                f'DataLoader or a list, but a {type(batches).__name__} can be iterated once.'
            )
        try:
            fit_options = FitOptions(**options)
        except TypeError as error:
            raise ConfigError(f'PlainDistiller.fit: {error}.') from error
        stream = _TeacherStream(self, batches)
        layers = self._supervised_layers(missing, next(stream.read())[0][:1])
        with TemporaryDirectory(dir=fit_options.cache_dir) as folder:
            fitters = {
                name: make_fitter(layer, fit_options, Path(folder), None)
                for name, layer in layers.items()
            }
            bar = progress_bar if progress else None
            for name, fitted in run_fitters(stream, fitters, bar).items():
                missing[name].copy_from(fitted)

    def losses(
        self, images: Tensor, labels: Tensor | None = None, teacher_images: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The losses of the KD layers, after the student's forward pass on the same images.

        Args:
            images: What the student was given, (N, 3, H, W).
            labels: Class indices (N,) or probabilities (N, C), where a SubclassDecision reads them.
            teacher_images: The same images as the teacher expects them, where that differs.

        Returns:
            By ``loss_<name>`` a scalar for each layer, already weighted.

        Raises:
            ConfigError: The student has not run with gradients since the last call, or shapes do not
                fit.
            UnfittedDecisionError: A decision has no tables.
        """
        features = self.teach(images if teacher_images is None else teacher_images)
        losses = {}
        for name, loss in self._losses.items():
            scores = self._scores[name].take()
            if scores is None or not scores.requires_grad:
                raise ConfigError(
                    f'kd_layers.{name}: there are no scores with gradients. Run the student on the '
                    'images first, in training mode, then call losses once.'
                )
            own = labels if loss.decision.needs_labels else None
            losses[f'loss_{name}'] = loss(scores, features[name], own)
        return losses

    @torch.no_grad()
    def teach(self, images: Tensor) -> dict[str, Tensor]:
        """The teacher's feature maps (N, D, H, W) of images, by layer."""
        with outputs_of(self._modules) as outputs, evaluating(self.teacher):
            self.teacher(images)
        missing = [name for name in self._features if name not in outputs]
        if missing:
            raise ConfigError(
                f'kd_layers.{missing[0]}.teacher: module "{self._features[missing[0]].module}" did '
                "not run in the teacher's forward pass. Name one that runs."
            )
        return {name: feature(outputs[name]) for name, feature in self._features.items()}

    @torch.no_grad()
    def _supervised_layers(
        self, missing: Mapping[str, TeacherDecision], images: Tensor
    ) -> dict[str, SupervisedLayer]:
        """The layers that are to be fitted, with shapes that were checked on one image."""
        places = {name: self._templates(name) for name in missing}
        with outputs_of(places) as scores, evaluating(self.student):
            self.student(images)
        features = self.teach(images)
        layers = {}
        for name, decision in missing.items():
            layers[name] = SupervisedLayer(name, f'kd_layers.{name}', decision, {}, {})
            shapes = (tuple(found[name].shape[1:]) for found in (features, scores))
            check_shapes(layers[name], *shapes)
        return layers

    def _templates(self, name: str) -> nn.Module:
        return self.student.get_submodule(f'kd_layers.{name}.templates')


class _TeacherStream:
    """Iterates (features by layer, labels) over batches of images."""

    def __init__(self, distiller: PlainDistiller, batches: Iterable[Any]) -> None:
        self.distiller, self.batches = distiller, batches
        self.device = next((p.device for p in distiller.teacher.parameters()), torch.device('cpu'))

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
        for images, labels in self.read():
            yield self.distiller.teach(images), labels

    def read(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Images (N, 3, H, W) on the teacher's device, and labels."""
        for batch in self.batches:
            images, *rest = [batch] if isinstance(batch, Tensor) else batch
            yield images.to(self.device), rest[0] if rest else None


class _Scores:
    """Forward hook that keeps the scores of a pass in training, until they are taken.

    A copy of the student, as an averaged one, has a hook that keeps nothing.
    """

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        self._scores: Tensor | None = None

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if self.keeps and module.training and torch.is_grad_enabled():
            self._scores = output

    def take(self) -> Tensor | None:
        """The scores of the last such pass, once."""
        scores, self._scores = self._scores, None
        return scores

    def __deepcopy__(self, memo: dict) -> _Scores:
        return _Scores(keeps=False)

    def __reduce__(self) -> tuple:
        return _Scores, (False,)
