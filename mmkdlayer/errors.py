"""Errors that this package raises on purpose.

Each message names the thing, what was expected, what was found, and how to fix it.
"""


class KDLayerError(Exception):
    """Base of every error that a user of this package can fix."""


class ConfigError(KDLayerError, ValueError):
    """A config names a module, a size or an option that does not fit the models."""


class CheckpointError(KDLayerError, ValueError):
    """A checkpoint can't be read, or holds other weights than expected."""


class DataError(KDLayerError, ValueError):
    """The data set does not hold what fitting or training needs."""


class SavedStateError(DataError):
    """What an interrupted fitting has left is damaged: it is dropped, and fitting begins anew."""


class ResourceError(KDLayerError, RuntimeError):
    """Memory, disk or file handles do not suffice."""


class FolderInUseError(KDLayerError, RuntimeError):
    """Another process works in a folder that only one may use."""


class DecisionFileError(KDLayerError, ValueError):
    """A decision file is damaged, foreign, or was fitted for something else."""


class StoreError(KDLayerError, ValueError):
    """Stored decisions are missing, damaged, or were stored for something else."""


class UnfittedDecisionError(KDLayerError, RuntimeError):
    """A decision is used before it was fitted or loaded."""


class TrainingError(KDLayerError, RuntimeError):
    """A training cannot continue."""
