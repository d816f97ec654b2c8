"""What old host libraries need on today's stack; nothing else in the package knows about versions.

mmrazor 1.0.0, the last release, was written for torch 1.13, mmcls and ``torch.load`` without
``weights_only``. :func:`enable` mends only what a user would otherwise hit, by looking at what is
there rather than at version numbers, and lazily: neither mmrazor nor mmpretrain is imported by it.
"""

from .checks import check_mmcv, check_pkg_resources, silence_known_notices
from .mmcls_alias import install_mmcls_alias
from .mmrazor_backend_config import BackendConfigFinder
from .mmrazor_crd_dataset import CRDDatasetFinder
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
    install_mmcls_alias()
    BackendConfigFinder.install()
    CRDDatasetFinder.install()
    recover_mmrazor()
    allow_mmengine_checkpoints()
