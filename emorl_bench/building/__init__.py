"""How the embedded models and scorers were made. Users load them (`assets`); nobody builds them to run a comparison."""
