"""``_base_ = 'mmkdlayer::kdlayer/...'``: this package's configs, inherited from anywhere.

mmengine reads ``package::config`` only for the packages of a table of its own, which says by what name
each is installed. Under a module's name it takes the folder of that module; under this package's it
would take the one that was installed, which is another than a checkout on ``PYTHONPATH``.
"""

from __future__ import annotations

from mmengine.config.utils import MODULE2PACKAGE


def allow_own_configs() -> None:
    """Put this package into mmengine's table of packages with configs."""
    MODULE2PACKAGE['mmkdlayer'] = 'mmkdlayer.version'
