"""The one place that states the version; and the versions of what it stands on."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

__version__ = '0.1.0'
#: OpenMMLab's and OneDL's, which install the same modules.
PACKAGES = (
    *('mmkdlayer', 'torch', 'mmengine', 'onedl-mmengine', 'mmpretrain', 'onedl-mmpretrain'),
    *('mmrazor', 'numpy'),
)


def installed_versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    return dict(python=platform.python_version(), **versions_of(PACKAGES))


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
