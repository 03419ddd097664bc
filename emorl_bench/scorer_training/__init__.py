"""Scorers that learn from labelled text: encoders, networks, losses, the training loop, measures and model cards."""
