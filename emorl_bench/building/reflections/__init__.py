"""How the bases and scorers of `reflections` were made."""
