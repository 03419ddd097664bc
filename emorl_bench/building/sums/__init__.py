"""How the bases of `sums` were made."""
