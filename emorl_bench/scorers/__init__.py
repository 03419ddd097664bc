"""Scorers: one objective each, from rules to trained models. A task's configuration lists those that it uses."""
