"""Fault injection: ``python tests/faults/run.py`` breaks runs of the real commands at random.

A trial makes a work dir in some state (``stages``), runs a command (``job``) in a forked process
(``processes``) with an injection (``injections``, ``damages``), goes on as a user would, and compares
what there is with a run that nobody disturbed (``checks``). ``cases`` lists which command gets which
injection, ``trial`` does one, ``results`` keeps and prints what came of them.
"""
