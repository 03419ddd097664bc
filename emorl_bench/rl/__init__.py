"""Training of policies: update rules, the loop that drives them, checkpoints, experts."""
