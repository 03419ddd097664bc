"""What a configuration may hold, how it is composed, and what can be known to be wrong before a model is loaded."""
