"""Policies: adapters of one base model that generate answers and can be trained.

`adapter_policy` is the policy of `core.protocols.Policy`, `together` runs several policies side by side, `peft_io`
writes an adapter to disk in PEFT's format.
"""
