"""Weight files: reading them without running code, comparing them with a network, writing them."""

from .files import hash_file, read_checkpoint, read_state_dict, write_checkpoint
from .state_dicts import describe_misfits, load_weights
from .student import STUDENT_PREFIX, read_student_weights

__all__ = [
    'STUDENT_PREFIX',
    'describe_misfits',
    'hash_file',
    'load_weights',
    'read_checkpoint',
    'read_state_dict',
    'read_student_weights',
    'write_checkpoint',
]
