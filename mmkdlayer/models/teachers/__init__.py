"""Teachers of any origin, and the view of an image that each is given."""

from .no_teacher import NoTeacher
from .sources import is_function
from .teacher_module import TeacherModule
from .view import Normalisation, TeacherView, attach_views, describe_view, find_view, members_of

__all__ = [
    'NoTeacher',
    'Normalisation',
    'TeacherModule',
    'TeacherView',
    'attach_views',
    'describe_view',
    'find_view',
    'is_function',
    'members_of',
]
