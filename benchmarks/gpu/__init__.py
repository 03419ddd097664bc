"""The GPU kit: one command that tests and measures the suite wherever a GPU is at hand (docs/gpu.md)."""
