"""What old host libraries need on today's stack; nothing else in the package knows about versions.

mmrazor 1.0.0, the last release, was written for torch 1.13, mmcls and ``torch.load`` without
``weights_only``. :func:`enable` fixes only what a user would otherwise run into. It looks at what is
there rather than at version numbers, and imports neither mmrazor nor mmpretrain.
"""

from .checks import check_mmcv, check_pkg_resources, silence_known_notices
from .import_hooks import RunOnImport, install_finder
from .mmcls_alias import MMClsAlias
from .mmrazor_backend_config import BACKEND_CONFIG, run_or_stand_in
from .mmrazor_crd_dataset import CRD_DATASET, run_with_ragged_numpy
from .mmrazor_recovery import recover_mmrazor
from .serialization import allow_mmengine_checkpoints

__all__ = ['enable']


def enable() -> None:
    """Make the host libraries work here; safe to call again and again.

    Raises:
        ImportError: If the module mmcv is missing, can't be imported or has a version outside
            2.0.0 to 2.1.0.
    """
    silence_known_notices()
    check_mmcv()
    check_pkg_resources()
    install_finder(MMClsAlias())
    install_finder(RunOnImport(BACKEND_CONFIG, run_or_stand_in))
    install_finder(RunOnImport(CRD_DATASET, run_with_ragged_numpy))
    recover_mmrazor()
    allow_mmengine_checkpoints()
