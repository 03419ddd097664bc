"""Learning from answers of others: `offline_policy` is the method, `dataset` reads a file of answers."""
