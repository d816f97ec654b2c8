"""Checks of what pip can't express: one package of several with the module mmcv, and pkg_resources."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings

from mmengine.utils import digit_version, is_installed

from .hosts import installed_providers

MMCV_MINIMUM = '2.0.0'
#: As in mmpretrain 1.2; mmrazor's own limit of 2.1.0 is lifted (see .mmrazor).
MMCV_LIMIT = '2.4.0'
_NEEDED = f'mmkdlayer needs the module mmcv, version {MMCV_MINIMUM} or later, below {MMCV_LIMIT}'
_INSTALL = (
    'pip install "mmcv-lite>=2.0.0,<=2.1.0" . mmcv-lite is enough for classification; if you need '
    'the compiled ops, install mmcv instead, but never both: they overwrite each other.'
)
_INSTALL_BESIDE_ONEDL = (
    'pip install --no-deps "mmcv-lite>=2.0.0,<=2.1.0" (without --no-deps it would overwrite '
    'onedl-mmengine by mmengine). mmcv-lite is enough for classification; if you need the compiled '
    'ops, install onedl-mmcv instead, but never both: they overwrite each other.'
)
_REINSTALL_OPENCV = (
    'A shared library is missing, usually one that opencv-python needs for windows on the screen. '
    'Run: pip uninstall -y opencv-python opencv-python-headless; pip install opencv-python-headless '
    "(or install the system package that has the library, such as Debian's libgl1)."
)


def check_mmcv() -> None:
    """Check that the module mmcv, whichever package it is from, is one that the host libraries accept.

    Raises:
        ImportError: If it is missing, can't be imported or has a version outside 2.0.0 to 2.3.
    """
    beside_onedl = 'onedl-mmengine' in installed_providers('mmengine')
    install = _INSTALL_BESIDE_ONEDL if beside_onedl else _INSTALL
    if 'mmcv' not in sys.modules and importlib.util.find_spec('mmcv') is None:
        raise ImportError(f'{_NEEDED}, but found none. Run: {install}')
    reinstall = f'Run: pip uninstall -y mmcv mmcv-lite onedl-mmcv; {install}'
    try:
        mmcv = importlib.import_module('mmcv')
    except ImportError as error:
        fix = _REINSTALL_OPENCV if '.so' in str(error) else reinstall
        raise ImportError(
            f'{_NEEDED}, but the installed one fails to import: {error}. {fix}'
        ) from error
    version = str(getattr(mmcv, '__version__', 'unknown'))
    try:
        minimum, found, limit = map(digit_version, (MMCV_MINIMUM, version, MMCV_LIMIT))
        supported = minimum <= found < limit
    except (AssertionError, ValueError):
        supported = False
    if not supported:
        raise ImportError(
            f'{_NEEDED}, but found {version} in {getattr(mmcv, "__file__", None)}. {reinstall}'
        )


def check_pkg_resources() -> None:
    """Warn where mmengine can't resolve ``package::config``.

    mmengine imports ``pkg_resources`` whenever a config inherits from another package; OneDL's does
    without. Setuptools up to 80 ships it; later releases drop it.
    """
    if 'pkg_resources' not in is_installed.__code__.co_names:
        return
    if 'pkg_resources' in sys.modules or importlib.util.find_spec('pkg_resources') is not None:
        return
    warnings.warn(
        'mmengine resolves configs such as "mmpretrain::resnet/resnet18_8xb32_in1k.py" with the '
        'module pkg_resources, which is not installed here: setuptools dropped it. Configs that '
        'inherit from another package will fail until you run: pip install "setuptools<81"',
        stacklevel=2,
    )


def silence_known_notices() -> None:
    """Silence what the host libraries print at each import or config, which calls for no action.

    Appended to the filters: one that the user has set (``-W error``, say) comes first.
    """
    for message in (
        # setuptools up to 80, each time mmengine resolves a config of another package.
        'pkg_resources is deprecated',
        # mmcv-lite, which has no compiled ops: no classifier of mmpretrain uses this one.
        'Fail to import ``MultiScaleDeformableAttention``',
    ):
        warnings.filterwarnings('ignore', message=message, append=True)
