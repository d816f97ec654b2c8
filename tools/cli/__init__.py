"""What the commands share: options, checks before anything is built, how errors are shown."""

import mmkdlayer  # noqa: F401  (before all others: makes the host libraries work)

from .building import build_runner
from .checks import check_checkpoints, check_data, check_out_file, check_writable
from .mixed_precision import add_amp_option, separate_amp, use_amp_in_test, use_amp_in_training
from .numbers import positive_number, whole_number
from .options import add_common_options, choose_work_dir, find_hook, load_config
from .reporting import report_errors, watch_signals
from .schedules import check_schedules, schedule_warnings
from .unread import check_unread, unread_warnings

__all__ = [
    'add_amp_option',
    'add_common_options',
    'build_runner',
    'check_checkpoints',
    'check_data',
    'check_out_file',
    'check_schedules',
    'check_unread',
    'check_writable',
    'choose_work_dir',
    'find_hook',
    'load_config',
    'positive_number',
    'report_errors',
    'schedule_warnings',
    'separate_amp',
    'use_amp_in_test',
    'use_amp_in_training',
    'unread_warnings',
    'watch_signals',
    'whole_number',
]
