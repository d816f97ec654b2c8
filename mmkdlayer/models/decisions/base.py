"""What every teacher decision shares: tables, files, pooling, checks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError, UnfittedDecisionError
from mmkdlayer.precision import float32_products
from mmkdlayer.registry import MODELS

from .files import ClassOrInstanceMethod, DecisionFile, load_decision, write_decision_file
from .row_targets import RowTargets
from .sizes import resize_to


def build_decision(given: TeacherDecision | Mapping[str, Any], key: str) -> TeacherDecision:
    """A decision, from itself or its config.

    Raises:
        ConfigError: It is none; the message begins with ``key``.
    """
    try:
        decision = given
        if isinstance(given, Mapping):
            options = dict(given)
            stored = options.pop('stored', None)
            decision = MODELS.build(options)
            decision.stored = stored
    except (KeyError, TypeError) as error:
        raise ConfigError(f'{key}: {dict(given)} builds no decision ({error}).') from error
    except ConfigError as error:
        raise ConfigError(f'{key}: {error}') from error
    if not isinstance(decision, TeacherDecision):
        raise ConfigError(
            f'{key} must be a TeacherDecision or its config, such as '
            'dict(type="mmkdlayer.CentroidDecision", num_centroids=4096), but got '
            f'{type(decision).__name__}.'
        )
    return decision


class TableStore(dict):
    """Tables by name. They never change, so deep copies of a model share them on each device."""

    def __deepcopy__(self, memo: dict) -> TableStore:
        return self


class TeacherDecision(nn.Module):
    """Base of the decisions: for each position, a distribution over K templates.

    The tables are constants, not state: they are no parameters and no buffers, so checkpoints do not
    carry them, and averaged copies of a model share them. Each is an attribute of its name, whose
    reading before the decision is fitted is a clear error. What a step needs of them is computed once
    (:meth:`prepare`) and stays on the device of the features.

    A subclass sets ``num_templates``, and says which tables it has and how it decides,
    :meth:`row_targets`.

    Args:
        file: Decision file to load. None builds an unfitted decision.
    """

    #: Names of the tensors, in files and as attributes.
    table_names: ClassVar[tuple[str, ...]] = ()
    #: Whether the images' labels are needed to decide.
    needs_labels: ClassVar[bool] = False
    #: K, how many templates it decides over.
    num_templates: int
    #: Of its products: 'float32', or 'tf32' for TensorFloat-32 on CUDA.
    precision: str = 'float32'
    #: Folder of stored decisions that a distiller reads in place of a teacher's features; None for none.
    stored: str | None = None

    def __init__(self, file: str | os.PathLike | None = None) -> None:
        super().__init__()
        self._tables = TableStore()
        self._prepared = TableStore()
        #: What the tables were fitted on; goes into the header of the file.
        self.provenance: dict[str, Any] = {}
        self.file = None if file is None else os.fspath(file)
        if self.file is not None:
            self.load(self.file)

    def __getattr__(self, name: str) -> Any:
        if name in self.table_names:
            self.require_fitted()
            if name in self._tables:
                return self._tables[name]
        return super().__getattr__(name)

    @property
    def feature_channels(self) -> int:
        """D, channels of the teacher's features that the tables were fitted on."""
        raise NotImplementedError

    def fit_options(self) -> dict[str, Any]:
        """The arguments that decide the tables; a file must have been fitted with the same."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The arguments that make an equal decision, for the header of its file."""
        return self.fit_options()

    def check_tables(self, tables: dict[str, Tensor]) -> None:
        """Check names and shapes against the settings.

        Raises:
            ConfigError: Something does not fit.
        """
        raise NotImplementedError

    def row_targets(self, feature: Tensor, gt_label: Tensor | None) -> RowTargets:
        """Probabilities over the K templates, for a loss that asks for some positions at a time.

        Args:
            feature: Pooled teacher features (N, D, H, W), in float32 or better.
            gt_label: As :meth:`check_label` gives it.
        """
        raise NotImplementedError

    def prepare(self, tables: dict[str, Tensor]) -> dict[str, Any]:
        """What deciding needs, computed once from the tables: tensors, or what has their ``to``."""
        return tables

    def prepared_for(self, like: Tensor) -> dict[str, Any]:
        """What :meth:`prepare` gives, on the device of a tensor and at least in float32."""
        self.require_fitted()
        key = (like.device, torch.promote_types(like.dtype, torch.float32))
        if key not in self._prepared:
            tables = {name: table.to(key[1]) for name, table in self._tables.items()}
            found = self.prepare(tables)
            self._prepared.clear()
            self._prepared[key] = {name: value.to(*key) for name, value in found.items()}
        return self._prepared[key]

    @property
    def is_fitted(self) -> bool:
        """Whether the decision has its tables."""
        return bool(self._tables)

    def require_fitted(self) -> None:
        """Raise an UnfittedDecisionError where there are no tables."""
        if not self.is_fitted:
            raise UnfittedDecisionError(
                f'{type(self).__name__} is not fitted yet: it needs tables that are computed from the '
                'teacher\'s features over the training set. Run "python -m mmkdlayer train CONFIG", '
                'which fits before it trains; or run '
                '"python -m mmkdlayer fit_decisions CONFIG --out DIR" and set '
                'file=DIR/<name>.safetensors in the decision.'
            )

    def set_tables(self, **tables: Tensor | None) -> None:
        """Take tables (None for an optional one that is not there), after checking them.

        Raises:
            ConfigError: Names, shapes or values do not fit the decision's settings.
        """
        kept = {name: table.detach() for name, table in tables.items() if table is not None}
        for name, table in kept.items():
            if table.is_complex() or table.is_meta or table.is_quantized:
                raise ConfigError(
                    f'{type(self).__name__}: expected the table "{name}" in real numbers, but got '
                    f'{"a tensor without values" if table.is_meta else table.dtype}.'
                )
            if table.dtype not in (torch.float32, torch.float64):
                table = table.float()
            if table.layout not in (torch.strided, torch.sparse_coo):
                table = table.to_sparse_coo()
            kept[name] = table
        self.check_tables(kept)
        self._tables, self._prepared = TableStore(kept), TableStore()

    def extra_repr(self) -> str:
        """Sizes and state, for ``print(model)``."""
        sizes = [f'{name}={value}' for name, value in (self.fit_options() | self.options()).items()]
        return ', '.join([*sizes, 'fitted' if self.is_fitted else 'unfitted'])

    def copy_from(self, fitted: TeacherDecision) -> None:
        """Take the tables and the provenance of another decision of the same kind and sizes."""
        self.set_tables(**fitted._tables)
        self.provenance = fitted.provenance

    def check_features(self, feature: Tensor) -> None:
        """Raise a ConfigError where the features have other channels than the tables."""
        if feature.size(1) != self.feature_channels:
            raise ConfigError(
                f'{type(self).__name__}: it was fitted on teacher features with '
                f'{self.feature_channels} channels, but the recorded features have '
                f'{feature.size(1)} (shape {tuple(feature.shape)}). Read the module that it was '
                'fitted on, or fit it again.'
            )

    def check_label(self, gt_label: Tensor | None, batch: int) -> Tensor | None:
        """The labels of ``batch`` images, or an error that says what is wrong with them."""
        return gt_label

    @torch.no_grad()
    def decide(
        self,
        teacher_feature: Tensor,
        gt_label: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """What the teacher says about every position, densely.

        Args:
            teacher_feature: Shape (N, D, H, W).
            gt_label: Class indices (N,) or class probabilities (N, C), for decisions that need them.
            size: (h, w) of the student's map; a larger teacher map is average-pooled to it, and of a
                smaller one the nearest position decides.

        Returns:
            Probabilities over the templates, shape (N, K, h, w).

        Raises:
            UnfittedDecisionError: There are no tables.
            ConfigError: Shapes do not fit.
            DataError: A label is out of range.
        """
        self.require_fitted()
        feature = resize_to(teacher_feature, size)
        self.check_features(feature)
        gt_label = self.check_label(gt_label, feature.size(0))
        with float32_products(feature.device, self.precision):
            feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
            return self.row_targets(feature, gt_label).dense(feature, self.num_templates)

    def save(self, path: str | os.PathLike) -> None:
        """Write the tables and what they were fitted on, atomically.

        Raises:
            UnfittedDecisionError: There is nothing to save.
            OSError: The folder can't be made or written.
        """
        self.require_fitted()
        write_decision_file(
            path, DecisionFile(type(self).__name__, self.options(), self.provenance, self._tables)
        )

    load = ClassOrInstanceMethod(load_decision)
