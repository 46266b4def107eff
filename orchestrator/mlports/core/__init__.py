"""Decisions, without I/O and without a clock: events and `now` in, instructions out."""
