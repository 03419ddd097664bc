"""Which expert said this word: each expert's share of every token of a blended answer.

`shares` computes it with one forward pass of each expert over a given answer, `records` puts it into words and numbers
that can be written and added up. The decode loop has no part in it.
"""
