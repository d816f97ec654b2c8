"""Whether tables are those of a decision over sub-classes."""

from __future__ import annotations

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError

#: Of a value in a table: products of two tables and a feature stay below 3.4e38, float32's largest.
LARGEST = 1e12


def check_subclass_tables(
    tables: dict[str, Tensor], num_classes: int, num_subclasses: int, num_components: int
) -> None:
    """Check names, shapes and values for C classes, M sub-classes and at most L components.

    They are projection (L, D), offset (L,), centers (C*M, L), decisions (C*M, C*M), dense or sparse, and
    optionally prototypes (C*M, L).

    Raises:
        ConfigError: Something does not fit.
    """
    needed = {'projection', 'offset', 'centers', 'decisions'}
    if not needed <= set(tables) <= needed | {'prototypes'}:
        raise ConfigError(
            f'SubclassDecision: expected the tables {sorted(needed)}, but found {sorted(tables)}.'
        )
    templates = num_classes * num_subclasses
    if tables['projection'].dim() != 2:
        raise ConfigError(
            'SubclassDecision: expected a projection (L, D), but got '
            f'{tuple(tables["projection"].shape)}.'
        )
    components, channels = tables['projection'].shape
    expected = dict(
        projection=(components, channels),
        offset=(components,),
        centers=(templates, components),
        decisions=(templates, templates),
        prototypes=(templates, components),
    )
    for name, table in tables.items():
        if tuple(table.shape) != expected[name]:
            raise ConfigError(
                f'SubclassDecision: with C={num_classes}, M={num_subclasses}, '
                f'L={components} the table "{name}" must be {expected[name]}, but it is '
                f'{tuple(table.shape)}.'
            )
        values = table.coalesce().values() if table.is_sparse else table
        if not bool(torch.isfinite(values).all()):
            raise ConfigError(
                f'SubclassDecision: the table "{name}" holds values that are not finite.'
            )
        largest = float(values.abs().max()) if values.numel() else 0.0
        if largest > LARGEST:
            raise ConfigError(
                f'SubclassDecision: the table "{name}" holds values up to {largest:.3g}, whose products '
                f'float32 does not hold; expected at most {LARGEST:g}. The table is damaged, or the '
                "teacher's features are not normalised."
            )
        if name == 'decisions' and bool((values < 0).any()):
            raise ConfigError(
                'SubclassDecision: the table "decisions" holds shares that are negative.'
            )
    if components > num_components:
        raise ConfigError(
            f'SubclassDecision: num_components is {num_components}, but the tables have '
            f'L={components} components.'
        )
    sums = tables['decisions'].sum(1)
    sums = sums.to_dense() if sums.is_sparse else sums
    worst = int((sums - 1).abs().argmax())
    if abs(float(sums[worst]) - 1) > 1e-3:
        raise ConfigError(
            'SubclassDecision: every row of the decision table must sum to 1, but row '
            f'{worst} sums to {float(sums[worst]):.6g}.'
        )
