"""A page that shows what a student has learned: its templates, and the teacher's decisions."""

from .comparing import compare
from .images import loader_key
from .networks import Networks, networks_of_training, open_networks
from .report_hook import ReportHook
from .writing import ReportOptions, agreement_before, write_report

__all__ = [
    'Networks',
    'ReportHook',
    'ReportOptions',
    'agreement_before',
    'compare',
    'loader_key',
    'networks_of_training',
    'open_networks',
    'write_report',
]
