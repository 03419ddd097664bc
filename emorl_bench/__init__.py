"""A benchmark of multi-objective fine-tuning of language models.

`docs/reading.md` follows one batch through the code. `core` has the vocabulary and the interfaces.
"""
