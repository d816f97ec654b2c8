"""Weight files: reading them without running code, comparing them with a network."""

from .reading import (
    STUDENT_PREFIX,
    hash_file,
    read_checkpoint,
    read_state_dict,
    read_student_weights,
)
from .state_dicts import describe_misfits, load_weights

__all__ = [
    'STUDENT_PREFIX',
    'describe_misfits',
    'hash_file',
    'load_weights',
    'read_checkpoint',
    'read_state_dict',
    'read_student_weights',
]
