"""Scorers that learn from labelled text: encoders, nets, losses, the loop, what is measured, and the card of it."""
