"""The embedded tasks: two small worlds written in code (`world`, `sums`), and the models and scorers shipped for them.

`shipped` checks the files, `scoring` runs the shipped scorers (`reader` and `ngrams`), and `tokenizer` makes the words
of a world into ids. `emorl_bench.building` has made the files.
"""
