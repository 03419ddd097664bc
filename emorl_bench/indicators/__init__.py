"""Numbers that describe results: fronts, confidence intervals, tests, and properties of texts."""
