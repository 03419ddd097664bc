"""Ensembles of experts: how they are blended or merged, and the search for the weights of each preference."""
