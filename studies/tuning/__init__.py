"""Tuning of every method by the same number of trials; `python -m studies.tuning`."""
