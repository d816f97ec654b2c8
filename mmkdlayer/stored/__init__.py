"""Decisions of a teacher that were stored once, and training that reads them in place of the teacher."""
