"""The one place that states the version; and the versions of what it stands on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__version__ = '0.1.0'
#: OpenMMLab's and OneDL's, which install the same modules.
PACKAGES = (
    *('mmkdlayer', 'torch', 'mmengine', 'onedl-mmengine', 'mmpretrain', 'onedl-mmpretrain'),
    *('mmrazor', 'numpy'),
)


def installed_versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    versions = dict(python=platform.python_version())
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
