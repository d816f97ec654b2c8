"""mmkdlayer: learnable KD layers (letKD, BMVC 2023) for mmrazor and mmpretrain.

Importing the package first makes old host libraries work (:mod:`mmkdlayer.compat`), then registers
its modules in the scope ``mmkdlayer``, and lets mmengine read checkpoints without running code in them.
"""

from .compat import enable

enable()

from . import engine, models, report, stored  # noqa: E402
from .checkpoints import read_for_hosts  # noqa: E402
from .deploy import load_student  # noqa: E402
from .engine import PlainDistiller  # noqa: E402
from .version import __version__  # noqa: E402

read_for_hosts()

__all__ = ['PlainDistiller', '__version__', 'engine', 'load_student', 'models', 'report', 'stored']
