"""What a configuration may hold, how it is composed, and which errors can be found in it before a model is loaded."""
