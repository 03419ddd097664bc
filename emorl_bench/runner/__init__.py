"""One run: from a configuration to a trained and graded method in a run directory."""
