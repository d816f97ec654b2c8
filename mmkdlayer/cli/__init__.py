"""What the commands share: options, checks before anything is built, how errors are shown."""

from .checks import check_checkpoints, check_compile, check_data_roots, check_writable
from .completing import complete_config, describe_changes, fitting_hook, watch_signals
from .options import add_common_options, choose_work_dir, load_config
from .reporting import report_errors

__all__ = [
    'add_common_options',
    'check_checkpoints',
    'check_compile',
    'check_data_roots',
    'check_writable',
    'choose_work_dir',
    'complete_config',
    'describe_changes',
    'fitting_hook',
    'load_config',
    'report_errors',
    'watch_signals',
]
