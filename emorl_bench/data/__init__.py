"""Corpora and how they are read: where a file is, what its rows mean, and who may see which of them. No torch in it."""
