"""Regret of weight searches: on surfaces in closed form (the program), and on the embedded task (`embedded`)."""
