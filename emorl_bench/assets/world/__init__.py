"""A small world of counselling, written in code: what clients say, and what counsellors of all kinds answer.

Everything is sampled from phrases in `lexicon` and is the same for the same seed. A statement carries the situation it
came from, a response carries its labels, so data can be split by situation and scorers can be trained.
"""
