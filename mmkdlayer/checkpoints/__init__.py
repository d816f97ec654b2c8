"""Weight files: reading them without running code, comparing them with a network."""

from .reading import hash_file, read_checkpoint, read_state_dict, read_student_weights
from .state_dicts import describe_misfits, load_weights

__all__ = [
    'describe_misfits',
    'hash_file',
    'load_weights',
    'read_checkpoint',
    'read_state_dict',
    'read_student_weights',
]
