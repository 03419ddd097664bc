"""Are the embedded tasks an experiment? Requirements of `emorl-assets check`, measured on the untrained bases and on
policies that were trained against the very scorers under test, on situations that no choice in the design looked at.
"""
