"""Checks that the host libraries are there, from OpenMMLab or from OneDL, which continues them.

Both families install the modules ``mmengine``, ``mmpretrain`` and ``mmcv``: the files of one overwrite
those of the other. pip can't express "either"; this is the one place that does, beside the extras.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings

from mmkdlayer.version import versions_of

#: Packages that install a module, each with the oldest version that works here.
PROVIDERS = {
    'mmengine': {'mmengine': '0.10', 'onedl-mmengine': '0.10'},
    'mmpretrain': {'mmpretrain': '1.2', 'onedl-mmpretrain': '1.3'},
    'mmcv': {'mmcv': '2.0', 'mmcv-lite': '2.0', 'onedl-mmcv': '2.3', 'mmcv-full': '2.0'},
}
_WAYS = (
    'Run: pip install "mmkdlayer[distill]" (OpenMMLab\'s packages), or pip install '
    '"mmkdlayer[onedl]" (OneDL\'s successors of them, Python 3.10 or later).'
)


def check_hosts() -> None:
    """Check mmengine and mmpretrain, without an import of either.

    Raises:
        ImportError: If one is missing or too old.
    """
    for module in ('mmengine', 'mmpretrain'):
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            raise ImportError(f'mmkdlayer needs the module {module}, but found none. {_WAYS}')
        for package, found in installed_providers(module).items():
            oldest = PROVIDERS[module][package]
            if _parts(found) < _parts(oldest):
                raise ImportError(
                    f'mmkdlayer needs {package} {oldest} or later, but found {found}. Run: '
                    f'pip install "{package}>={oldest}"'
                )
    warn_about_overwritten_modules()


def installed_providers(module: str) -> dict[str, str]:
    """Return the installed packages that put files into a module, each with its version."""
    return versions_of(PROVIDERS[module])


def warn_about_overwritten_modules() -> None:
    """Warn where two installed packages have written the same module: neither is whole."""
    for module in PROVIDERS:
        packages = list(installed_providers(module))
        if len(packages) > 1:
            warnings.warn(
                f'The packages {" and ".join(packages)} are both installed, and both install the module '
                f'{module}: the files of one have overwritten those of the other. Run: pip '
                f'uninstall -y {" ".join(packages)}, then install one of them again. (What brings '
                'the second is often a dependency: OneDL\'s packages need "pip install --no-deps '
                'mmcv-lite".)',
                stacklevel=2,
            )


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r'\d+', text)[:2])
