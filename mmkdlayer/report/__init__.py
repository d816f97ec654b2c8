"""A page that shows what a student has learned: its templates, and the teacher's decisions."""

from .comparing import compare
from .measuring import measure, probe_geometry
from .networks import Networks, networks_of_training, open_networks
from .writing import ReportOptions, examine, write_page

__all__ = [
    'Networks',
    'ReportOptions',
    'compare',
    'examine',
    'measure',
    'networks_of_training',
    'open_networks',
    'probe_geometry',
    'write_page',
]
