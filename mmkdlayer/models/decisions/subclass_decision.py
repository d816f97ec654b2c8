"""The teacher's decisions over the sub-classes that its features fall into."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.ops import check_sizes, class_indices, maps_of, require
from mmkdlayer.registry import MODELS

from .base import TeacherDecision
from .row_targets import DenseTargets, RowTargets
from .subclass_checks import check_subclass_tables
from .table_targets import TableTargets, prepare_rows

#: Classes in a soft label up to which their rows are looked up instead of multiplied with the table.
MOST_LOOK_UPS = 8


@MODELS.register_module()
class SubclassDecision(TeacherDecision):
    """Rows of a table of decisions between sub-classes, looked up by the nearest own sub-class.

    For an image of class y and the projected teacher features z_i = A f_i + b::

        a*(i) = nearest to z_i among the M centers of class y
        p_T(i) = S[a*(i)]

    where S[a, b] is the share of the positions of sub-class a whose nearest prototype, over all C*M,
    is b. Source: letKD (BMVC 2023), section 3.2, for the intermediate layer.

    A soft label q (Mixup, CutMix, smoothing) gets the mixture of the decisions of its classes, each
    with its own nearest sub-class::

        p_T(i) = sum_y q_y S[a*_y(i)],    a*_y(i) = nearest to z_i among the M centers of class y

    Soft labels are those that reach the loss (``gt_score``, batch augmentation); mmpretrain's
    LabelSmoothLoss smooths inside itself, so there the label stays hard. Where it is known how few
    classes are mixed (on a CPU it is looked at; elsewhere that would wait for the device, so
    ``mixed_classes`` says it) each costs a look-up; else a mixture costs a product with the table,
    (positions, C*M) x (C*M, C*M), in the forward and in the backward pass.

    Tables: ``projection`` (L, D), ``offset`` (L,), ``centers`` (C*M, L), ``decisions`` (C*M, C*M), whose
    rows sum to 1, dense or torch-sparse, and ``prototypes`` (C*M, L).

    Args:
        num_classes: C.
        num_subclasses: M, clusters inside each class. K = C*M.
        num_components: L at most, LDA components that are kept; never more than C - 1, D, or the
            rank of the data.
        file: Decision file to load. None builds an unfitted decision.
        mixed_classes: How many classes a soft label mixes at most (2 for Mixup and CutMix); None
            where it is not known.

    Raises:
        DecisionFileError: The file does not fit (see :meth:`load`).
    """

    needs_labels = True
    table_names = ('projection', 'offset', 'centers', 'decisions', 'prototypes')

    def __init__(
        self,
        num_classes: int,
        num_subclasses: int = 8,
        num_components: int = 60,
        file: str | os.PathLike | None = None,
        mixed_classes: int | None = None,
    ) -> None:
        check_sizes('SubclassDecision', 2, num_classes=num_classes)
        sizes = dict(num_subclasses=num_subclasses, num_components=num_components)
        mixed = {} if mixed_classes is None else dict(mixed_classes=mixed_classes)
        check_sizes('SubclassDecision', **sizes, **mixed)
        self.num_classes = num_classes
        self.num_subclasses = num_subclasses
        self.num_templates = num_classes * num_subclasses
        self.num_components = num_components
        self.mixed_classes = mixed_classes
        #: False where the tables do not say what was asked for, only what they have.
        self.states_components = True
        super().__init__(file)

    @classmethod
    def from_tables(
        cls,
        projection: Tensor,
        offset: Tensor,
        centers: Tensor,
        decisions: Tensor,
        num_classes: int,
        prototypes: Tensor | None = None,
        num_components: int | None = None,
    ) -> SubclassDecision:
        """A fitted decision from its tables.

        Args:
            projection: A, shape (L, D).
            offset: b, shape (L,).
            centers: Shape (C*M, L); those of class c are rows c*M to (c+1)*M - 1.
            decisions: S, shape (C*M, C*M), dense or torch-sparse; rows sum to 1.
            num_classes: C.
            prototypes: Shape (C*M, L), kept for the record; not needed to decide.
            num_components: What was asked for, when it is more than the L that the data allowed.
                Without it, a file of this decision fits any config that asks for L or more.

        Raises:
            ConfigError: Shapes do not fit each other, or rows do not sum to 1.
        """
        if centers.dim() != 2 or centers.size(0) == 0 or centers.size(0) % num_classes:
            raise ConfigError(
                f'SubclassDecision: expected centers (C*M, L) with C={num_classes}, but got '
                f'{tuple(centers.shape)}.'
            )
        decision = cls(
            num_classes, centers.size(0) // num_classes, num_components or centers.size(1)
        )
        decision.states_components = num_components is not None
        decision.set_tables(
            projection=projection,
            offset=offset,
            centers=centers,
            decisions=decisions,
            prototypes=prototypes,
        )
        return decision

    @property
    def prototypes(self) -> Tensor:
        """Shape (C*M, L): mean of the positions of each sub-class (the centers where not stored)."""
        self.require_fitted()
        return self._tables.get('prototypes', self._tables['centers'])

    @property
    def feature_channels(self) -> int:
        """D, channels of the teacher's features that the projection was fitted on."""
        return self.projection.size(1)

    def fit_options(self) -> dict[str, Any]:
        """The arguments that decide the tables."""
        return dict(
            num_classes=self.num_classes,
            num_subclasses=self.num_subclasses,
            num_components=self.num_components,
        )

    def options(self) -> dict[str, Any]:
        """The arguments that make an equal decision, for the header of its file."""
        stated = self.fit_options()
        if not self.states_components:
            del stated['num_components']
        return stated

    def check_tables(self, tables: dict[str, Tensor]) -> None:
        """Expect the shapes that :meth:`from_tables` names, and rows of S that sum to 1."""
        check_subclass_tables(tables, **self.fit_options())

    def check_label(self, gt_label: Tensor | None, batch: int) -> Tensor:
        """Return the labels, or raise an error that says what is wrong with them."""
        classes = self.num_classes
        if gt_label is None:
            raise ConfigError(
                "SubclassDecision needs the images' labels, but got none. A KDLayerDistiller hands them "
                'over by itself; in another distiller record them and add gt_label to the loss in '
                'loss_forward_mappings.'
            )
        soft = gt_label.is_floating_point()
        expected = (batch, classes) if soft else (batch,)
        if tuple(gt_label.shape) != expected:
            raise ConfigError(
                f'SubclassDecision: expected labels ({batch},) of integers or ({batch}, C={classes}) '
                f'of probabilities, but got {tuple(gt_label.shape)} of {gt_label.dtype}.'
            )
        if not soft:
            return class_indices('SubclassDecision', gt_label, classes)
        sums = gt_label.sum(1)
        require(
            ((sums - 1).abs() < 1e-2).all() & (gt_label >= 0).all(),
            'SubclassDecision: soft labels must be probabilities that sum to 1',
            lambda: (
                f'sums from {float(sums.min()):.4g} to {float(sums.max()):.4g} and a least value '
                f'of {float(gt_label.min()):.4g}'
            ),
        )
        return gt_label

    def row_targets(self, feature: Tensor, gt_label: Tensor | None) -> RowTargets:
        """Targets of pooled features (N, D, H, W) and labels (N,) or (N, C): rows are looked up."""
        assert gt_label is not None  # check_label has seen to it
        prepared = self.prepared_for(feature)
        table = dict(rows=prepared['rows'], entropies=prepared['entropies'])
        if not gt_label.is_floating_point():
            z = _project(feature, prepared)
            return TableTargets(**table, index=self._nearest(z, gt_label, prepared))
        label = gt_label.to(feature.dtype)
        area = feature.size(2) * feature.size(3)
        mixed = self.mixed_classes
        if mixed is None and label.device.type == 'cpu':
            mixed = int((label > 0).sum(1).max())  # nothing to wait for
        if mixed is None or mixed > MOST_LOOK_UPS:
            return DenseTargets(lambda images: self._mixture(feature[images], label[images]), area)
        shares, classes = label.topk(min(mixed, self.num_classes), dim=1)
        require(
            (label.sum(1) - shares.sum(1) < 1e-3).all(),
            f'SubclassDecision: a soft label must have at most mixed_classes={mixed} classes',
            lambda: 'one with more. Set mixed_classes to how many are mixed at most, or to None',
        )
        z = _project(feature, prepared)
        index = [self._nearest(z, part, prepared) for part in classes.t()]
        shares = shares.t().repeat_interleave(area, dim=1)
        return TableTargets(**table, index=torch.stack(index), shares=shares)

    def prepare(self, tables: dict[str, Tensor]) -> dict[str, Any]:
        """What a step needs: rows for look-ups, and each class's centers from their mean.

        The expanded square of a distance loses precision far from the origin.
        """
        centers = tables['centers'].unflatten(0, (self.num_classes, -1))
        means = centers.mean(1)
        own = centers - means[:, None]
        return dict(
            {name: tables[name] for name in ('projection', 'offset', 'centers')},
            **dict(own=own, own_squares=own.square().sum(2), own_offset=tables['offset'] - means),
            **prepare_rows(tables['decisions']),
        )

    def _nearest(self, z: Tensor, label: Tensor, prepared: dict[str, Any]) -> Tensor:
        """The sub-class of each position among those of its image's class: rows of the table, (N*H*W,).

        ``z`` are projected features without offset (N, L, H*W), ``label`` class indices (N,).
        """
        z = z + prepared['own_offset'][label][:, :, None]
        # |z|^2 is left out: it is the same for all of them.
        squares = prepared['own_squares'][label][:, :, None]
        distances = torch.baddbmm(squares, prepared['own'][label], z, alpha=-2)
        nearest = distances.argmin(1)
        return nearest.add_(label[:, None], alpha=self.num_subclasses).flatten()

    def _mixture(self, feature: Tensor, label: Tensor) -> Tensor:
        """Targets (N, K, H, W) of soft labels (N, C), without asking the device how many are mixed.

        Weights on the nearest sub-class of every class, times the table: one product, whatever the
        number of classes.
        """
        prepared = self.prepared_for(feature)
        centers = prepared['centers']
        origin = centers.mean(0)
        z = _project(feature, prepared) + (prepared['offset'] - origin)[:, None]
        # Each class's centers from their mean, as for hard labels.
        centers = (centers - origin).unflatten(0, (self.num_classes, -1))
        means = centers.mean(1, keepdim=True)
        centers = centers - means
        own_part = (centers * (centers + 2 * means)).sum(2).flatten()
        distances = own_part[:, None] - 2 * torch.matmul(centers.flatten(0, 1), z)
        nearest = distances.unflatten(1, (self.num_classes, -1)).argmin(2, keepdim=True)
        weights = distances.new_zeros(distances.shape).unflatten(1, (self.num_classes, -1))
        weights.scatter_(2, nearest, label[:, :, None, None].expand_as(nearest))
        weights = weights.flatten(1, 2)
        mixed = prepared['rows'].mix(weights.transpose(1, 2).flatten(0, 1))
        return maps_of(mixed, feature)


def _project(feature: Tensor, prepared: dict[str, Tensor]) -> Tensor:
    """A f, which is Z without its offset: (N, D, H, W) to (N, L, H*W)."""
    return torch.matmul(prepared['projection'], feature.flatten(2))
