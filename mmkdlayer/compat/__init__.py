"""What old host libraries need on today's stack; nothing else in the package knows about versions.

mmrazor 1.0.0, the last release, was written for torch 1.13, mmcls and ``torch.load`` without
``weights_only``. :func:`enable` fixes only what a user would otherwise run into. It looks at what is
there rather than at version numbers, and imports neither mmrazor nor mmpretrain.
"""

from .hosts import check_hosts

check_hosts()  # before the modules below import mmengine

from .checks import check_mmcv, check_pkg_resources, silence_known_notices  # noqa: E402
from .config_scope import allow_own_configs  # noqa: E402
from .image_errors import name_unreadable_images  # noqa: E402
from .import_hooks import RunOnImport, install_finder  # noqa: E402
from .mmcls_alias import MMClsAlias  # noqa: E402
from .mmpretrain_notice import DATASETS, run_without_notice  # noqa: E402
from .mmrazor import RUNNERS, lower_raised_limit  # noqa: E402
from .mmrazor_backend_config import BACKEND_CONFIG, run_or_stand_in  # noqa: E402
from .mmrazor_import_order import check_import_order  # noqa: E402
from .serialization import allow_mmengine_checkpoints, keep_history_statistics  # noqa: E402

__all__ = ['enable']


def enable() -> None:
    """Make the host libraries work here; safe to call again and again.

    Raises:
        ImportError: If the module mmcv is missing, can't be imported or has a version outside
            2.0.0 to 2.3, or if mmrazor was imported before and failed.
    """
    silence_known_notices()
    check_import_order()
    check_mmcv()
    check_pkg_resources()
    name_unreadable_images()
    install_finder(MMClsAlias())
    runners = {**RUNNERS, DATASETS: run_without_notice, BACKEND_CONFIG: run_or_stand_in}
    for name, run in runners.items():
        install_finder(RunOnImport(name, run))
    lower_raised_limit()
    keep_history_statistics()
    allow_own_configs()
    allow_mmengine_checkpoints()
