"""Policies: adapters of one base model that generate answers and can be trained.

`adapter_policy` has the policy of `core.protocols.Policy`, `together` runs several policies at once, and `peft_io`
writes an adapter to disk in PEFT's format.
"""
