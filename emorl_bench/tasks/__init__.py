"""Tasks: prompts, their splits and the scorers that judge answers."""
