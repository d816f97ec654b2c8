"""Errors that this package raises on purpose.

Each message names the thing, what was expected, what was found, and how to mend it.
"""


class KDLayerError(Exception):
    """Base of every error that a user of this package can mend."""


class ConfigError(KDLayerError, ValueError):
    """A config names a module, a size or an option that does not fit the models."""


class DataError(KDLayerError, ValueError):
    """The data set does not hold what fitting or training needs."""


class DecisionFileError(KDLayerError, ValueError):
    """A decision file is damaged, foreign, or was fitted for something else."""


class UnfittedDecisionError(KDLayerError, RuntimeError):
    """A decision is used before it was fitted or loaded."""
