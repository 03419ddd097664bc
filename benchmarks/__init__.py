"""Speed claims as ratios that anyone can measure again: ``python -m benchmarks.{decode,search,train,scaling}``."""
