"""Learning from answers of others: `offline_policy` is the method, and `dataset` reads a file of answers."""
