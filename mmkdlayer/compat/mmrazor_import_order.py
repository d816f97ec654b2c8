"""Says what to do where mmrazor was imported before mmkdlayer, without what it needs.

A failed ``import mmrazor.models`` leaves classes in the registries, so that a second try ends in
"already registered"; one that succeeds holds placeholders where it looked for mmcls.
"""

from __future__ import annotations

import sys
import warnings

_FIRST = (
    'import mmkdlayer first: the first line of the script, or the first entry of the custom_imports of '
    'the config'
)


def check_import_order() -> None:
    """Check that no mmrazor was imported before.

    Raises:
        ImportError: One was, and failed halfway.
    """
    submodules = [name for name in sys.modules if name.startswith('mmrazor.')]
    # A submodule outlives its package where that failed: Python drops only what failed.
    if any(name.rpartition('.')[0] not in sys.modules for name in submodules):
        raise ImportError(
            'mmrazor was imported before mmkdlayer, and failed halfway; a second try would fail too. '
            f'Start Python again, and {_FIRST}.'
        )
    if 'mmrazor.models' in sys.modules and 'mmcls' not in sys.modules:
        warnings.warn(
            'mmrazor was imported before mmkdlayer, while no module was called mmcls: what it takes '
            f'from that will say that mmcls is not installed. If you need it, {_FIRST}.',
            stacklevel=3,
        )
