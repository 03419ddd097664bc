"""A saved workspace and a report of W&B for the runs of a project, built with wandb-workspaces."""
