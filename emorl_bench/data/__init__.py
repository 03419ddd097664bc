"""Corpora and how they are read: where a file is, what its rows mean, and which rows are in which part. No torch."""
