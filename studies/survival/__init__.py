"""Whether a run that was killed ends with the artefacts of one that was not; ``python -m studies.survival``."""
