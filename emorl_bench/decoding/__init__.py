"""Generating text: single policies, merges and blends, greedy and sampled.

Start with `decode`. `batch` holds what one decode is given and returns, and `prefix_tree` says which outputs share a
row. `stepping` makes one step: by a `fused` model where there is one for the architecture, else by transformers'
modules. `sampling` and `bf16_argmax` choose tokens, `mixing` and `layer_averaging` combine adapters, and `blend_cache`
remembers prompts and answers. `static_rows` is the loop of a device that should not wait for the host, with `graphs` of
its steps, and `rollout_engine` is what an engine outside of this project must offer. docs/decoding.md explains each of
these, and why it is exact. Nothing here knows how a policy is trained.
"""
