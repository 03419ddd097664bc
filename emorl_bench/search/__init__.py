"""Searches for the weights of a blend. They know nothing of language models."""
