"""Weight files: reading them without running code, comparing them with a network."""

from .contents import STUDENT_PREFIX, check_content, read_state_dict, read_student_weights
from .host_loaders import read_for_hosts
from .loading import refuse_compression
from .reading import hash_file, read_checkpoint
from .state_dicts import (
    check_values,
    describe_lacks,
    describe_misfits,
    load_weights,
    load_what_fits,
)

__all__ = [
    'STUDENT_PREFIX',
    'check_content',
    'check_values',
    'describe_lacks',
    'describe_misfits',
    'hash_file',
    'load_weights',
    'load_what_fits',
    'read_checkpoint',
    'read_for_hosts',
    'read_state_dict',
    'read_student_weights',
    'refuse_compression',
]
