"""How the embedded models and scorers were made."""
