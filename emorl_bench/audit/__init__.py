"""Are the embedded tasks a valid experiment? Requirements of ``emorl-assets check``.

They are measured on the untrained base models and on policies that were trained against the very scorers under test, in
situations that no choice in the design has looked at.
"""
