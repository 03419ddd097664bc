"""Reward over-optimisation on proxies, after Gao et al. (2210.10760) and Coste et al. (2310.02743)."""
