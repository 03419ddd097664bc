"""Decoding steps of our own for some architectures, faster than transformers' modules and equal but for rounding.

`registry` says which model has which, `engine` is what they share, `t5` and `decoder_only` are the architectures.
`projection` joins linear layers and adapters into one product, `rows` and `cache` hold keys and values.
"""
